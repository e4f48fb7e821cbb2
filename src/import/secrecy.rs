//! What messages about an import file may repeat of it: no value, since a key may have slipped into any cell; and of names
//! only those that are words.

/// The most letters of a name that is repeated: a secret key has more characters.
const MAX_WORD: usize = 15;

/// A field, by its name if that is a word.
pub fn field(name: &str) -> String {
    word(name).map_or_else(|| format!("field of {} characters", name.chars().count()), |word| format!("field {word}"))
}

/// The name in quotes, if it is a word.
pub fn word(name: &str) -> Option<String> {
    let is_word = (1..=MAX_WORD).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| format!("{name:?}"))
}
