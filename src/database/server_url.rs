//! Parses URLs of PostgreSQL servers: one or several hosts, and the state that the server must have.

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use url::Url;

/// The parameters that a PostgreSQL URL may have. Any other is an error, because a mistyped `sslmode` must not disable
/// TLS.
const PARAMETERS: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    STATEMENTS,
    "host",
    "hostaddr",
    "port",
    "application_name",
    "options",
    WANTED,
];

const STATEMENTS: &str = "statement-cache-capacity";
const WANTED: &str = "target_session_attrs";

/// The state that a server must have to be used: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Any,
    ReadWrite,
    Primary,
    ReadOnly,
    Standby,
    PreferStandby,
}

/// The state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerState {
    /// Whether the server is a standby (`pg_is_in_recovery`).
    pub is_standby: bool,
    /// Whether transactions are read-only by default (`default_transaction_read_only`).
    pub is_read_only: bool,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            "read-write" => Ok(Self::ReadWrite),
            "primary" => Ok(Self::Primary),
            "read-only" => Ok(Self::ReadOnly),
            "standby" => Ok(Self::Standby),
            "prefer-standby" => Ok(Self::PreferStandby),
            _ => Err(format!(
                "{WANTED} is any, read-write, primary, read-only, standby or prefer-standby, and not {text:?}"
            )),
        }
    }

    /// Returns whether a suitable server may take writes.
    pub fn allows_writes(self) -> bool {
        matches!(self, Self::Any | Self::ReadWrite | Self::Primary)
    }

    /// Returns why a server in this state is not suitable; `None` if it is suitable.
    pub fn refuses(self, state: ServerState) -> Option<&'static str> {
        match self {
            Self::ReadWrite | Self::Primary if state.is_standby => Some("it takes no writes: it is a standby"),
            Self::ReadWrite if state.is_read_only => {
                Some("it takes no writes: default_transaction_read_only is on there")
            }
            Self::ReadOnly if !state.is_standby && !state.is_read_only => Some("it takes writes"),
            Self::Standby if !state.is_standby => Some("it is not a standby"),
            _ => None,
        }
    }
}

/// The servers that a URL names, and its parameters that hold for all of them.
pub(super) struct ServerUrls {
    /// A URL for each host, in the order of the original URL.
    pub each: Vec<Url>,
    /// The value of `target_session_attrs`, if the URL has it.
    pub wanted: Option<Wanted>,
    /// Whether prepared statements may be kept: the URL does not have `statement-cache-capacity=0`.
    pub keeps_statements: bool,
    /// Whether the URL contains a password.
    pub has_password: bool,
}

impl ServerUrls {
    /// Parses the URL of one or several servers.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (before, hosts, after) = hosts_of(url);
        let mut urls = Self { each: Vec::new(), wanted: None, keeps_statements: true, has_password: false };
        for host in hosts.split(',') {
            let url = parse_one(&format!("{before}{host}{after}"))?;
            urls.has_password |= url.password().is_some();
            for (key, value) in url.query_pairs() {
                match &*key {
                    WANTED => urls.wanted = Some(Wanted::parse(&value)?),
                    STATEMENTS => urls.keeps_statements = value != "0",
                    _ => {}
                }
            }
            urls.each.extend(one_for_each_host(&url, hosts.contains(','))?);
        }
        for url in &urls.each {
            PgConnectOptions::from_url(url).map_err(|error| match error {
                sqlx::Error::Configuration(reason) => reason.to_string(),
                other => other.to_string(),
            })?;
        }
        Ok(urls)
    }
}

/// Splits the URL into the part before the hosts, the hosts, and the part after them.
fn hosts_of(url: &str) -> (&str, &str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let start = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    (&url[..start], &url[start..end], &url[end..])
}

fn parse_one(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    // A password that contains one of these characters unescaped ends too early. Its rest would be parsed as a port, a
    // database or a parameter, and error messages would show it.
    let path = parsed.path().trim_start_matches('/');
    if parsed.fragment().is_some() || path.contains(['@', '/']) || parsed.query().is_some_and(|q| q.contains('@')) {
        return Err("a password's # must be written %23, its / %2F, its ? %3F and its @ %40".to_owned());
    }
    let has_host = parsed.host_str().is_some_and(|host| !host.is_empty());
    if !has_host && !parsed.query_pairs().any(|(key, _)| key == "host" || key == "hostaddr") {
        return Err("it names no host".to_owned());
    }
    for (key, _) in parsed.query_pairs() {
        if key == "password" || key == "user" || key == "dbname" {
            return Err(format!(
                "{key} is written before the question mark, as in postgres://USER:PASSWORD@HOST/DATABASE"
            ));
        }
        if !PARAMETERS.contains(&key.as_ref()) {
            return Err(format!("the parameter {key:?} is not known"));
        }
    }
    Ok(parsed)
}

/// Returns a URL with one host for each host that the parameters list. Each has only the parameters that the driver
/// knows.
fn one_for_each_host(url: &Url, is_one_of_several: bool) -> Result<Vec<Url>, String> {
    let list = |name: &str| -> Option<Vec<String>> {
        let value = url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value).last()?;
        Some(value.split(',').map(str::to_owned).collect())
    };
    let hosts = list("hostaddr").map(|hosts| ("hostaddr", hosts)).or_else(|| list("host").map(|hosts| ("host", hosts)));
    if is_one_of_several && (hosts.is_some() || list("port").is_some()) {
        return Err("several hosts are written in one place, as in postgres://USER@HOST1:PORT1,HOST2:PORT2/DATABASE \
                    or ?host=HOST1,HOST2&port=PORT1,PORT2"
            .to_owned());
    }
    let count = hosts.as_ref().map_or(1, |(_, hosts)| hosts.len());
    if hosts.as_ref().is_some_and(|(_, hosts)| hosts.iter().any(String::is_empty)) {
        return Err("it names no host".to_owned());
    }
    let ports = list("port");
    if ports.as_ref().is_some_and(|ports| ports.len() != 1 && ports.len() != count) {
        return Err("it needs one port, or as many as hosts".to_owned());
    }
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| ![WANTED, "host", "hostaddr", "port"].contains(&&**key))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let one = |index: usize| {
        let mut single = url.clone();
        {
            let mut pairs = single.query_pairs_mut();
            pairs.clear().extend_pairs(&others);
            if let Some((name, hosts)) = &hosts {
                pairs.append_pair(name, &hosts[index]);
            }
            if let Some(port) = ports.as_ref().and_then(|ports| ports.get(index).or_else(|| ports.first())) {
                pairs.append_pair("port", port);
            }
        }
        single
    };
    Ok((0..count).map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(url: &str) -> Vec<String> {
        let place = |url: &Url| {
            let options = PgConnectOptions::from_url(url).unwrap();
            format!("{}:{}", options.get_host(), options.get_port())
        };
        ServerUrls::parse(url).unwrap_or_else(|reason| panic!("{url}: {reason}")).each.iter().map(place).collect()
    }

    #[test]
    fn several_hosts_are_read_as_libpq_reads_them() {
        assert_eq!(places("postgres://u@h1:5433,h2,h3:1/d"), ["h1:5433", "h2:5432", "h3:1"]);
        assert_eq!(places("postgres://u@[::1]:1,[2001:db8::2]/d"), ["[::1]:1", "[2001:db8::2]:5432"]);
        assert_eq!(places("postgres:///d?host=h1,h2"), ["h1:5432", "h2:5432"]);
        assert_eq!(places("postgres:///d?host=h1,h2&port=7"), ["h1:7", "h2:7"]);
        assert_eq!(places("postgres:///d?host=h1,h2&port=7,8"), ["h1:7", "h2:8"]);
        assert_eq!(places("postgres:///d?hostaddr=10.0.0.1,10.0.0.2"), ["10.0.0.1:5432", "10.0.0.2:5432"]);
        assert_eq!(places("postgres://h0:9/d?host=h1,h2"), ["h1:9", "h2:9"]);
    }

    #[test]
    fn login_database_and_parameters_are_kept_for_each_host() {
        let urls =
            ServerUrls::parse("postgres://u:p%2C1@h1,h2/d?sslmode=require&target_session_attrs=primary").unwrap();
        assert_eq!((urls.wanted, urls.has_password, urls.keeps_statements), (Some(Wanted::Primary), true, true));
        for url in &urls.each {
            let options = PgConnectOptions::from_url(url).unwrap();
            assert_eq!((options.get_username(), options.get_database()), ("u", Some("d")));
            assert!(matches!(options.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
        }
        assert!(!ServerUrls::parse("postgres://h/d?statement-cache-capacity=0").unwrap().keeps_statements);
    }

    #[test]
    fn ambiguous_or_invalid_hosts_are_refused() {
        for (url, reason) in [
            ("postgres://h1,/d", "it names no host"),
            ("postgres:///d?host=h1,", "it names no host"),
            ("postgres:///d?host=h1,h2&port=1,2,3", "as many as hosts"),
            ("postgres://h1,h2/d?host=h3", "in one place"),
            ("postgres://h1:x,h2/d", "invalid port number"),
            ("postgres://h/d?target_session_attrs=writer", "target_session_attrs is any"),
        ] {
            let Err(said) = ServerUrls::parse(url) else { panic!("{url} was taken") };
            assert!(said.contains(reason), "{url}: {said}");
        }
    }

    #[test]
    fn a_server_is_suitable_as_libpq_defines_it() {
        let state = |is_standby, is_read_only| ServerState { is_standby, is_read_only };
        let (primary, fenced, standby) = (state(false, false), state(false, true), state(true, false));
        for (wanted, is_suitable) in [
            (Wanted::Any, [true, true, true]),
            (Wanted::ReadWrite, [true, false, false]),
            (Wanted::Primary, [true, true, false]),
            (Wanted::ReadOnly, [false, true, true]),
            (Wanted::Standby, [false, false, true]),
            (Wanted::PreferStandby, [true, true, true]),
        ] {
            assert_eq!(
                [primary, fenced, standby].map(|state| wanted.refuses(state).is_none()),
                is_suitable,
                "{wanted:?}"
            );
        }
    }
}
