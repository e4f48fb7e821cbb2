//! Names that no other test has, and that still say which test they belong to.

use rand::TryRng as _;
use rand::rngs::SysRng;

/// The longest name that both a Kubernetes namespace and a PostgreSQL database may have.
const LONGEST: usize = 63;

/// The test's name made into a DNS label, with a random end.
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
