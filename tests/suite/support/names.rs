//! Names that are unique and that contain the name of the test.

use rand::TryRng as _;
use rand::rngs::SysRng;

/// The maximum length of the name of a Kubernetes namespace and of a PostgreSQL database.
const LONGEST: usize = 63;

/// Returns the test's name as a DNS label with a random suffix.
pub fn unique(test_name: &str) -> String {
    let random = SysRng.try_next_u32().expect("the system gives random numbers");
    let end = format!("-{random:08x}");
    let mut name: String = test_name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' })
        .collect();
    name = name.trim_matches('-').to_owned();
    name.truncate(LONGEST - "t-".len() - end.len());
    format!("t-{name}{end}")
}
