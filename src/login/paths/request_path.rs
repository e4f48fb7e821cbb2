//! The path of a request, read so strictly that no other program reads it differently.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;

/// A path of a request: decoded segments, none of which is `.` or `..`.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestPath<'a> {
    segments: Vec<Cow<'a, str>>,
}

/// Why a path is refused: two programs could read it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AmbiguousPath {
    /// It does not begin with `/`.
    #[error("it does not begin with /")]
    NotAbsolute,
    /// It has `//`.
    #[error("it has //")]
    EmptySegment,
    /// It has a segment `.` or `..`.
    #[error("it has a segment . or ..")]
    DotSegment,
    /// It has a character that a path cannot have, or that some programs give a meaning, such as `;`, `\` or `#`.
    #[error("it has a character that has no place in a path, such as ; or \\ or # or a space")]
    Character,
    /// It has a percent sign without two hexadecimal digits.
    #[error("it has a % without two hexadecimal digits")]
    Encoding,
    /// It has a percent-encoded character that some programs decode before they split the path, and others after.
    #[error("it has an encoded character that changes the path for some programs, such as %2F, %2E, %5C, %25 or %00")]
    EncodedCharacter,
    /// What is percent-encoded is not UTF-8.
    #[error("what is percent-encoded is not UTF-8")]
    NotUtf8,
}

impl AmbiguousPath {
    /// The reason's name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path-not-absolute",
            Self::EmptySegment => "path-empty-segment",
            Self::DotSegment => "path-dot-segment",
            Self::Character => "path-character",
            Self::Encoding => "path-encoding",
            Self::EncodedCharacter => "path-encoded-character",
            Self::NotUtf8 => "path-not-utf-8",
        }
    }
}

impl<'a> RequestPath<'a> {
    /// Reads the target of a request as it was sent, with its query (RFC 9112 section 3.2.1).
    ///
    /// # Errors
    /// Two programs could read the path differently. The query is not read, except that a `#` is refused in it too.
    pub fn parse(target: &'a str) -> Result<Self, AmbiguousPath> {
        if target.contains('#') {
            return Err(AmbiguousPath::Character);
        }
        let path = target.split_once('?').map_or(target, |(path, _query)| path);
        let segments = path.strip_prefix('/').ok_or(AmbiguousPath::NotAbsolute)?;
        let segments: Vec<_> = segments.split('/').map(decoded).collect::<Result<_, _>>()?;
        match segments.split_last() {
            // The last segment may be empty: `/plans/` is a path of its own.
            Some((_, before)) if before.iter().any(|segment| segment.is_empty()) => Err(AmbiguousPath::EmptySegment),
            _ => Ok(Self { segments }),
        }
    }

    /// The segments, decoded. The root has one empty segment, and so has each path that ends with `/`.
    pub fn segments(&self) -> &[Cow<'a, str>] {
        &self.segments
    }
}

/// Decodes one segment (RFC 3986 section 3.3).
fn decoded(segment: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    if matches!(segment, "." | "..") {
        return Err(AmbiguousPath::DotSegment);
    }
    check_characters(segment)?;
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| AmbiguousPath::NotUtf8)?;
    if text.contains(char::is_control) { Err(AmbiguousPath::EncodedCharacter) } else { Ok(text) }
}

/// Checks each byte before anything is decoded.
fn check_characters(segment: &str) -> Result<(), AmbiguousPath> {
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => after_encoded(after)?,
            _ if is_plain(byte) => after,
            _ => return Err(AmbiguousPath::Character),
        };
    }
    Ok(())
}

/// Takes the two digits after a percent sign.
fn after_encoded(rest: &[u8]) -> Result<&[u8], AmbiguousPath> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low, after @ ..] = rest else {
        return Err(AmbiguousPath::Encoding);
    };
    let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
        return Err(AmbiguousPath::Encoding);
    };
    let is_structural = u8::try_from(high * 16 + low).is_ok_and(|byte| b"/\\.;%?#".contains(&byte));
    if is_structural { Err(AmbiguousPath::EncodedCharacter) } else { Ok(after) }
}

/// Returns whether a path may have the byte as it is: `pchar` of RFC 3986 without `;`, which begins parameters of a
/// segment for some programs.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

impl fmt::Debug for RequestPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestPath").field(&self.segments).finish()
    }
}
