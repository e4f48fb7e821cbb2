//! The part of a resource's state that a reconcile depends on.

use crate::api::ROTATE_ANNOTATION;
use crate::reconcile::{Desired, is_paused};
use crate::secrets::ResourceIdentity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

/// Everything that distinguishes one declaration of a resource from another, as hashes: it is only compared, and one is
/// kept for each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Declaration {
    uid: Hash,
    rest: Hash,
    being_deleted: bool,
}

/// The first half of a SHA-256.
type Hash = [u8; 16];

impl Declaration {
    /// Returns the declaration of an object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.as_ref();
        Self {
            uid: hash(&metadata.uid),
            rest: rest(
                metadata.generation,
                annotations.and_then(|annotations| annotations.get(ROTATE_ANNOTATION)),
                is_paused(metadata),
            ),
            being_deleted: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Returns the declaration of the object from which this was parsed.
    pub fn of_desired(desired: &Desired) -> Self {
        Self {
            uid: hash(&desired.uid),
            rest: rest(desired.generation, desired.rotation.requests.annotation.as_ref(), desired.paused),
            being_deleted: false,
        }
    }

    /// Returns whether this resource, with this UID, is being deleted.
    pub fn is_deletion_of(&self, resource: &ResourceIdentity) -> bool {
        self.being_deleted && self.uid == hash(&resource.uid)
    }
}

fn rest(generation: Option<i64>, rotate: Option<&String>, paused: bool) -> Hash {
    hash(&(generation, rotate, paused))
}

/// Hashes the text that `Debug` shows. It quotes and escapes each text, so no two values have the same one.
fn hash(value: &impl std::fmt::Debug) -> Hash {
    let whole: [u8; 32] = Sha256::digest(format!("{value:?}")).into();
    std::array::from_fn(|place| whole[place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use std::collections::BTreeMap;

    fn metadata() -> ObjectMeta {
        ObjectMeta { uid: Some("u".to_owned()), generation: Some(1), ..ObjectMeta::default() }
    }

    #[test]
    fn each_part_distinguishes_declarations() {
        let annotated = |name: &str, value: &str| ObjectMeta {
            annotations: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
            ..metadata()
        };
        let different = [
            metadata(),
            ObjectMeta { uid: None, ..metadata() },
            ObjectMeta { uid: Some("other".to_owned()), ..metadata() },
            ObjectMeta { generation: None, ..metadata() },
            ObjectMeta { generation: Some(2), ..metadata() },
            annotated(ROTATE_ANNOTATION, ""),
            annotated(ROTATE_ANNOTATION, "now"),
            annotated(crate::api::PAUSED_ANNOTATION, "true"),
            ObjectMeta { deletion_timestamp: Some(Time("2026-01-01T00:00:00Z".parse().unwrap())), ..metadata() },
        ];
        for (place, one) in different.iter().enumerate() {
            for (other_place, other) in different.iter().enumerate() {
                let are_equal = Declaration::of(one) == Declaration::of(other);
                assert_eq!(are_equal, place == other_place, "{one:?} {other:?}");
            }
        }
        assert_eq!(Declaration::of(&metadata()), Declaration::of(&annotated("other", "annotation")));
    }
}
