//! Decides what messages about an import file may repeat. They repeat no value, because a key may be in a wrong cell,
//! and a field name only if it is a word.

/// The maximum length of a name that is repeated, in letters. A secret key is longer.
const MAX_WORD: usize = 15;

/// Describes a field by its name if the name is a word, and by the length of its name otherwise.
pub fn field(name: &str) -> String {
    word(name).map_or_else(|| format!("field of {} characters", name.chars().count()), |word| format!("field {word}"))
}

/// Returns the name in quotes if it is a word.
pub fn word(name: &str) -> Option<String> {
    let is_word = (1..=MAX_WORD).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| format!("{name:?}"))
}
