//! Reads the texts of manifests from files, folders and standard input.

use super::problem::{Place, Position, Problem};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// A source of manifests, as `-f` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, read with any extension, or a folder, whose `.yaml`, `.yml` and `.json` files are read at any depth.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<OsString> for Source {
    /// Reads `-` as standard input and any other text as a path.
    fn from(text: OsString) -> Self {
        if text == "-" { Self::Stdin } else { Self::Path(text.into()) }
    }
}

/// A text with the file name for messages, or why it cannot be read.
pub(super) type Input = Result<(Arc<str>, String), Problem>;

/// Reads sources in turn. Each file is read once, even if several paths or links lead to it.
pub(super) struct Inputs<R> {
    stdin: Option<R>,
    seen: HashSet<PathBuf>,
}

impl<R: Read> Inputs<R> {
    pub(super) fn new(stdin: R) -> Self {
        Self { stdin: Some(stdin), seen: HashSet::new() }
    }

    /// Calls `take` with each text of a source, ordered by file name. Returns whether the source is a folder without
    /// manifests. A folder whose files were read before is not such a folder.
    pub(super) fn read(&mut self, source: &Source, take: &mut impl FnMut(Input)) -> bool {
        match source {
            Source::Stdin => {
                if let Some(mut stdin) = self.stdin.take() {
                    let name = Arc::from("<stdin>");
                    let mut bytes = Vec::new();
                    let read = stdin.read_to_end(&mut bytes).map(|_| bytes);
                    take(text(name, read));
                }
                false
            }
            Source::Path(path) => match fs::metadata(path) {
                Ok(found) if found.is_dir() => !self.folder(path, take),
                Ok(_) => {
                    self.file(path, take);
                    false
                }
                Err(error) => {
                    take(Err(unreadable(shown(path), &error)));
                    false
                }
            },
        }
    }

    /// Reads a folder's manifests, and returns whether it has any. A folder is read once, so that a symbolic link to a
    /// parent folder causes no endless recursion.
    fn folder(&mut self, path: &Path, take: &mut impl FnMut(Input)) -> bool {
        let names = fs::canonicalize(path).and_then(|real| Ok((real, names(path)?)));
        let (real, names) = match names {
            Ok(names) => names,
            Err(error) => {
                take(Err(unreadable(shown(path), &error)));
                return true;
            }
        };
        if !self.seen.insert(real) {
            return true;
        }
        let mut any = false;
        for name in names {
            let path = path.join(&name);
            let is_manifest = has_manifest_ending(&path);
            match fs::metadata(&path) {
                Ok(found) if found.is_dir() => any |= self.folder(&path, take),
                Ok(found) if found.is_file() && is_manifest => {
                    self.file(&path, take);
                    any = true;
                }
                // Pipes and devices could block for ever. They are an error, since the accounts of a file that is
                // skipped would count as undeclared.
                Ok(_) if is_manifest => {
                    let error = io::Error::other("it is not a regular file; to read it, name the file itself with -f");
                    take(Err(unreadable(shown(&path), &error)));
                    any = true;
                }
                Ok(_) => {}
                // An error with any extension: the entry may be a link to a folder of manifests.
                Err(error) => {
                    take(Err(unreachable(shown(&path), &error)));
                    any = true;
                }
            }
        }
        any
    }

    fn file(&mut self, path: &Path, take: &mut impl FnMut(Input)) {
        // A pipe, such as a shell's <(command), has no canonical path but can be read.
        let is_new = fs::canonicalize(path).map_or(true, |real| self.seen.insert(real));
        if is_new {
            take(text(shown(path), fs::read(path)));
        }
    }
}

/// Returns the names in a folder, sorted, without hidden ones. A mounted `ConfigMap` has the real copies of its files
/// in hidden folders.
fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn has_manifest_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    matches!(ending.as_deref(), Some("yaml" | "yml" | "json"))
}

/// Returns a path for messages: without a leading `./` and without control characters.
fn shown(path: &Path) -> Arc<str> {
    let text = path.to_string_lossy();
    let mut short = &*text;
    while let Some(rest) =
        short.strip_prefix("./").map(|rest| rest.trim_start_matches('/')).filter(|rest| !rest.is_empty())
    {
        short = rest;
    }
    short.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect::<String>().into()
}

fn text(name: Arc<str>, bytes: io::Result<Vec<u8>>) -> Input {
    let bytes = bytes.map_err(|error| unreadable(Arc::clone(&name), &error))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let valid = String::from_utf8_lossy(valid);
            let column = valid.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let position = Some(Position { line: valid.matches('\n').count() + 1, column });
            Err(problem(Place { file: name, position }, "is not UTF-8 text: save it as UTF-8".to_owned()))
        }
    }
}

/// Returns the problem of a folder's entry whose metadata cannot be read.
fn unreachable(name: Arc<str>, error: &io::Error) -> Problem {
    match error.kind() {
        ErrorKind::NotFound => {
            let message = "is a broken link: repair it, or remove it if its target declares nothing";
            problem(Place { file: name, position: None }, message.to_owned())
        }
        _ => unreadable(name, error),
    }
}

fn unreadable(name: Arc<str>, error: &io::Error) -> Problem {
    let message = match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    problem(Place { file: name, position: None }, message)
}

fn problem(place: Place, message: String) -> Problem {
    Problem { place, object: None, field: None, message }
}

/// Returns the name of a source for messages.
pub(super) fn name(source: &Source) -> Arc<str> {
    match source {
        Source::Stdin => Arc::from("<stdin>"),
        Source::Path(path) => shown(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    /// Creates a folder with these files. The text of each file is its name.
    fn folder(files: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    /// Reads these paths below a folder. Returns the names of the files that were read, messages of problems, and
    /// `nothing` for a folder without manifests.
    fn read(folder: &TempDir, paths: &[&str]) -> Vec<String> {
        let root = fs::canonicalize(folder.path()).unwrap();
        let mut inputs = Inputs::new(io::empty());
        let mut all = Vec::new();
        for path in paths {
            let empty = inputs.read(&Source::Path(root.join(path)), &mut |input| {
                let shown = match input {
                    Ok((name, _)) => name.to_string(),
                    Err(problem) => problem.to_string(),
                };
                all.push(shown.replace(root.to_str().unwrap(), "").trim_start_matches('/').to_owned());
            });
            if empty {
                all.push("nothing".to_owned());
            }
        }
        all
    }

    #[test]
    fn a_dash_is_standard_input() {
        let command = clap::Command::new("test").arg(clap::Arg::new("from").value_parser(clap::value_parser!(Source)));
        let given = command.try_get_matches_from(["test", "-"]).unwrap();
        assert_eq!(given.get_one("from"), Some(&Source::Stdin));
        assert_eq!(Source::from(OsString::from("-")), Source::Stdin);
        assert_eq!(Source::from(OsString::from("./-")), Source::Path("./-".into()));
    }

    #[test]
    fn a_folder_gives_its_manifests_in_order_and_at_any_depth() {
        let folder =
            folder(&["b.yaml", "a/z.yml", "a/d/1.json", "c.YAML", "README.md", "a.txt", ".x.yaml", ".git/y.yaml"]);
        assert_eq!(read(&folder, &[""]), ["a/d/1.json", "a/z.yml", "b.yaml", "c.YAML"]);
        assert_eq!(read(&folder, &["README.md", "a/", ".git"]), ["README.md", "a/d/1.json", "a/z.yml", ".git/y.yaml"]);
    }

    #[test]
    fn a_file_is_read_once() {
        let folder = folder(&["a.yaml", "b.yaml"]);
        symlink("a.yaml", folder.path().join("c.yaml")).unwrap();
        assert_eq!(read(&folder, &["b.yaml", "b.yaml", "", ""]), ["b.yaml", "a.yaml"]);
    }

    #[test]
    fn links_to_parent_folders_and_mounted_config_maps_are_read_without_a_loop() {
        let folder = folder(&["..2024/a.yaml", "sub/b.yaml"]);
        symlink("..2024", folder.path().join("..data")).unwrap();
        symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
        symlink("..", folder.path().join("sub/loop")).unwrap();
        symlink("self.yaml", folder.path().join("self.yaml")).unwrap();
        symlink("gone.yaml", folder.path().join("link.yaml")).unwrap();
        let read = read(&folder, &[""]);
        let [a, link, loops, b] = &read[..] else { panic!("{read:#?}") };
        assert_eq!((a.as_str(), b.as_str()), ("a.yaml", "sub/b.yaml"));
        assert_eq!(link, "link.yaml: is a broken link: repair it, or remove it if its target declares nothing");
        assert!(loops.starts_with("self.yaml: cannot be read: "), "{loops}");
    }

    /// Accounts in a folder that is skipped would count as undeclared, and pruning would delete them.
    #[test]
    fn a_link_to_a_missing_folder_is_an_error() {
        let folder = folder(&["a.yaml"]);
        symlink("../gone", folder.path().join("team")).unwrap();
        let said = "team: is a broken link: repair it, or remove it if its target declares nothing";
        assert_eq!(read(&folder, &[""]), ["a.yaml", said]);
    }

    #[test]
    fn a_pipe_is_read() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"kind: X\n").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        let mut texts = Vec::new();
        Inputs::new(io::empty()).read(&Source::Path(path), &mut |input| texts.push(input.unwrap().1));
        assert_eq!(texts, ["kind: X\n"]);
    }

    #[test]
    fn the_current_folder_is_not_shown() {
        for (path, expected) in [
            ("./a.yaml", "a.yaml"),
            (".//a.yaml", "a.yaml"),
            ("././/./a.yaml", "a.yaml"),
            ("./", "./"),
            ("/a", "/a"),
            (".a", ".a"),
        ] {
            assert_eq!(&*shown(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn an_entry_that_is_not_a_file_is_an_error_and_does_not_block() {
        let folder = folder(&["a.yaml"]);
        let _socket = UnixListener::bind(folder.path().join("b.yaml")).unwrap();
        let said = "b.yaml: cannot be read: it is not a regular file; to read it, name the file itself with -f";
        assert_eq!(read(&folder, &[""]), ["a.yaml", said]);
    }

    #[test]
    fn a_missing_path_and_an_empty_folder_are_reported() {
        let folder = folder(&["sub/README.md"]);
        assert_eq!(read(&folder, &["gone", "sub"]), ["gone: there is no such file or folder", "nothing"]);
    }

    #[test]
    fn a_text_that_is_not_utf_8_is_an_error_with_its_position() {
        let folder = folder(&[]);
        fs::write(folder.path().join("a.yaml"), b"a: 1\nb: \xc3\xa9\xe9\n").unwrap();
        assert_eq!(read(&folder, &["a.yaml"]), ["a.yaml:2:5: is not UTF-8 text: save it as UTF-8"]);
    }
}
