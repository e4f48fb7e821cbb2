//! Parses database URLs, and shows them without their password.

use super::DatabaseError;
use super::server_url::ServerUrls;
use std::path::PathBuf;

/// The place of a database.
pub(super) enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// A database on a PostgreSQL server, or on one of several.
    Server(Box<ServerUrls>),
}

impl Place {
    /// Parses a database URL.
    pub fn parse(url: &str) -> Result<Self, DatabaseError> {
        let place = match url.split_once("://") {
            Some(("sqlite", file)) => parse_file(file).map(Self::File),
            Some(("postgres" | "postgresql", _)) => ServerUrls::parse(url).map(|urls| Self::Server(Box::new(urls))),
            Some((scheme, _)) => Err(format!("the scheme {scheme:?} is not known")),
            None => Err("it has no scheme".to_owned()),
        };
        place.map_err(|reason| DatabaseError::Url { url: without_password(url), reason })
    }
}

fn parse_file(file: &str) -> Result<PathBuf, String> {
    if file.is_empty() {
        return Err("it names no file".to_owned());
    }
    if file == ":memory:" {
        return Err("a database in memory would be lost, and every account's keys with it".to_owned());
    }
    if file.contains(['?', '\0']) {
        return Err("the name of the file may have no question mark, and SQLite takes no parameters here".to_owned());
    }
    let path = PathBuf::from(file);
    // SQLite would read a name that begins with `file:` as a URI.
    Ok(if path.is_absolute() { path } else { PathBuf::from(".").join(path) })
}

/// Returns the URL with `***` for the password and `...` for the parameters, so that it can be shown. The text may be
/// an invalid URL, so the last `@` counts as the end of the password.
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        // The text is no URL. It may be a connection string of another program, with a password at any place.
        None if url.contains(['=', '@', ':', ';', ' ']) => {
            return "(not shown, since a password may be in it)".to_owned();
        }
        None => (String::new(), url),
    };
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let login = match login.map(|login| login.split_once(':').map_or((login, false), |(user, _)| (user, true))) {
        Some((user, true)) => format!("{user}:***@"),
        Some((user, false)) => format!("{user}@"),
        None => String::new(),
    };
    let rest = match rest.split_once('?') {
        Some((rest, _)) => format!("{rest}?..."),
        None => rest.to_owned(),
    };
    format!("{scheme}{login}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::ConnectOptions as _;
    use sqlx::postgres::PgConnectOptions;

    fn refusal(url: &str) -> String {
        match Place::parse(url) {
            Err(error) => format!("{error} {error:?}"),
            Ok(_) => panic!("{url} was taken"),
        }
    }

    #[test]
    fn a_file_name_is_used_literally() {
        let file = |url| match Place::parse(url) {
            Ok(Place::File(path)) => path,
            _ => panic!("{url} is a file"),
        };
        assert_eq!(file("sqlite:///var/lib/a%20b.db"), PathBuf::from("/var/lib/a%20b.db"));
        assert_eq!(file("sqlite://opsadmin.db"), PathBuf::from("./opsadmin.db"));
        assert_eq!(file("sqlite://file:x.db"), PathBuf::from("./file:x.db"));
    }

    #[test]
    fn the_error_says_why_a_url_is_not_a_database() {
        for (url, reason) in [
            ("opsadmin.db", "it has no scheme"),
            ("mysql://u@h/d", "the scheme \"mysql\" is not known"),
            ("sqlite://", "it names no file"),
            ("sqlite://:memory:", "would be lost"),
            ("sqlite://a.db?mode=ro", "takes no parameters"),
            ("postgres:///d", "it names no host"),
            ("postgres://h:port/d", "invalid port number"),
            ("postgres://h/d?sslmod=require", "the parameter \"sslmod\" is not known"),
            ("postgres://h/d?sslmode=maybe", "maybe"),
        ] {
            let said = refusal(url);
            assert!(said.contains(reason), "{url}: {said}");
            assert!(said.contains("write sqlite://FILE or postgres://USER@HOST/DATABASE"), "{said}");
        }
    }

    #[test]
    fn no_password_is_shown_for_any_invalid_url() {
        for url in [
            "postgres://u:hush@h:port/d",
            "postgres://u:hush@h/d?unknown=1",
            "postgres://u@h/d?password=hush",
            "postgres://u:12#hush@h/d",
            "postgres://u:12/hush@h/d",
            "postgres://u:12?hush@h/d",
            "postgres://u:x@hush@h:p/d",
            "postgres://u:hush@h1:p,h2/d",
            "postgres://u:hush@h1,h2/d?target_session_attrs=some",
            "postgres://u:12,/hush@h1,h2/d",
            "postgres://u:h ush@h:p/d",
            "postgre://u:hush@h/d",
            "u:hush@h/d",
            "u/hush@h",
            "host=h user=u password=hush",
            "Server=h;User Id=u;Password=hush;",
            "jdbc:postgresql://h/d?user=u&password=hush",
        ] {
            let said = refusal(url);
            assert!(!said.contains("hush") && !said.contains("ush@"), "{url}: {said}");
        }
    }

    #[test]
    fn a_server_url_is_parsed_with_all_its_parts() {
        let Ok(Place::Server(urls)) =
            Place::parse("postgresql://u:p%40ss@db.example:5433/accounts?sslmode=verify-full")
        else {
            panic!("this is a server");
        };
        let options = PgConnectOptions::from_url(&urls.each[0]).unwrap();
        assert_eq!((options.get_host(), options.get_port(), options.get_username()), ("db.example", 5433, "u"));
        assert_eq!(options.get_database(), Some("accounts"));
    }
}
