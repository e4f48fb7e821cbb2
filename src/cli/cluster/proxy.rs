//! The proxy for the connection to a cluster: from the kubeconfig, or else from the environment, by the rules of
//! kubectl.

use super::no_proxy::NoProxy;
use http::Uri;
use std::fmt::{self, Display, Formatter};
use url::Url;

/// The default port of a SOCKS proxy.
const SOCKS_PORT: u16 = 1080;

/// A proxy, and the setting that names it. [`Display`] shows it without its password.
#[derive(Clone)]
pub struct Proxy {
    /// The URL for the client.
    pub url: Uri,
    shown: String,
    named_by: String,
}

impl Display for Proxy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} of {}", self.shown, self.named_by)
    }
}

impl Proxy {
    /// Parses the `proxy-url` of a kubeconfig. It takes precedence over the environment.
    ///
    /// # Errors
    /// Why the text is no URL of a proxy. The message does not repeat the text, which may contain a password.
    pub fn of_kubeconfig(url: &str) -> Result<Self, String> {
        Self::parse(url, "`proxy-url` in the kubeconfig")
    }

    /// Returns the proxy that the environment names for a server. `None`: there is none, or `NO_PROXY` excludes the
    /// server.
    ///
    /// # Errors
    /// Why the value of the variable is no URL of a proxy.
    pub fn of_environment(server: &Uri, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let any = |names: [&'static str; 2]| {
            let given = |name: &'static str| Some((name, variable(name)?.trim().to_owned()));
            names.into_iter().filter_map(given).find(|(_, value)| !value.is_empty())
        };
        let (names, port) = match server.scheme_str() {
            Some("http") => (["HTTP_PROXY", "http_proxy"], 80),
            _ => (["HTTPS_PROXY", "https_proxy"], 443),
        };
        let (Some((name, url)), Some(host)) = (any(names), server.host()) else { return Ok(None) };
        let except = any(["NO_PROXY", "no_proxy"]).map(|(_, list)| list).unwrap_or_default();
        if NoProxy::parse(&except).is_direct(host, server.port_u16().unwrap_or(port)) {
            return Ok(None);
        }
        let proxy = Self::parse(&url, &format!("the variable {name}"))?;
        Ok(Some(Self { named_by: format!("the variable {name}, from which NO_PROXY does not except it"), ..proxy }))
    }

    fn parse(text: &str, named_by: &str) -> Result<Self, String> {
        let wrong = |fault: &str| format!("{named_by} {fault}; write it like http://proxy.example.com:3128");
        let text = text.trim();
        // As in Go, `proxy:3128` is an HTTP proxy.
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&text).map_err(|error| wrong(&format!("is no URL ({error})")))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("names no host"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        let scheme = match url.scheme() {
            scheme @ ("http" | "https") => scheme,
            // `socks5` and `socks5h` are the same here: the proxy always resolves the host name.
            "socks5" | "socks5h" if has_user => {
                return Err(wrong("has a user name, which is only possible for a proxy that speaks HTTP"));
            }
            "socks5" | "socks5h" => {
                let port = url.port().unwrap_or(SOCKS_PORT);
                url.set_port(Some(port)).map_err(|()| wrong("has no port"))?;
                "socks5"
            }
            _ => return Err(wrong("must begin with http://, https:// or socks5://")),
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{scheme}://{}{port}", url.host_str().unwrap_or_default());
        let user = match (url.username(), url.password()) {
            ("", None) => String::new(),
            (name, password) => format!("{name}:{}@", password.unwrap_or_default()),
        };
        let authority = format!("{user}{}{port}", url.host_str().unwrap_or_default());
        let url = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let url = url.map_err(|_| wrong("is no URL that can be used"))?;
        Ok(Self { url, shown, named_by: named_by.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://10.96.0.1:6443";

    fn found(server: &str, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let proxy = Proxy::of_environment(&server.parse().unwrap(), &variable)?;
        Ok(proxy.map(|proxy| proxy.url.to_string()))
    }

    #[test]
    fn the_environment_names_a_proxy_as_for_kubectl() {
        let proxy = |environment: &[(&str, &str)]| found(SERVER, environment).unwrap();
        let used = |url: &str| Some(url.to_owned());
        assert_eq!(proxy(&[]), None);
        assert_eq!(proxy(&[("HTTPS_PROXY", "http://proxy:3128")]), used("http://proxy:3128/"));
        assert_eq!(proxy(&[("https_proxy", "http://proxy:3128")]), used("http://proxy:3128/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "http://a"), ("https_proxy", "http://b")]), used("http://a/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", " "), ("https_proxy", "http://b\n")]), used("http://b/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "proxy:3128")]), used("http://proxy:3128/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "10.0.0.1:3128")]), used("http://10.0.0.1:3128/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "https://proxy")]), used("https://proxy/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "socks5h://proxy")]), used("socks5://proxy:1080/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "socks5://[2001:db8::1]:99")]), used("socks5://[2001:db8::1]:99/"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "http://me:p%40ss@proxy:3128/x")]), used("http://me:p%40ss@proxy:3128/"));
        // Go and kubectl do not read `ALL_PROXY`.
        assert_eq!(proxy(&[("ALL_PROXY", "http://proxy:3128")]), None);
        assert_eq!(proxy(&[("HTTP_PROXY", "http://proxy:3128")]), None);
        let plain = |environment: &[(&str, &str)]| found("http://10.96.0.1:8080", environment).unwrap();
        assert_eq!(plain(&[("HTTPS_PROXY", "http://proxy:3128")]), None);
        assert_eq!(plain(&[("HTTP_PROXY", "http://proxy:3128")]), used("http://proxy:3128/"));
    }

    #[test]
    fn the_environment_excludes_servers_from_the_proxy() {
        let is_direct = |server: &str, except: (&str, &str)| {
            found(server, &[("HTTPS_PROXY", "http://proxy:3128"), except]).unwrap().is_none()
        };
        assert!(is_direct(SERVER, ("NO_PROXY", "10.96.0.0/12")) && is_direct(SERVER, ("no_proxy", "10.96.0.1:6443")));
        assert!(!is_direct(SERVER, ("NO_PROXY", "10.96.0.1:443")));
        assert!(is_direct("https://api.example.com", ("NO_PROXY", "example.com:443")));
        assert!(is_direct("https://[2001:db8::1]:6443", ("NO_PROXY", "2001:db8::/32")));
        assert!(is_direct("https://127.0.0.1:6443", ("NO_PROXY", "")));
        // The `kube` crate's own parser refuses this list.
        assert!(is_direct(SERVER, ("NO_PROXY", "localhost,,10.96.0.1,")));
    }

    #[test]
    fn a_wrong_proxy_is_reported_without_its_password() {
        for (url, fault) in [
            (
                "ftp://me:hush@proxy",
                "the variable HTTPS_PROXY must begin with http://, https:// or socks5://; write it",
            ),
            ("socks5://me:hush@proxy", "the variable HTTPS_PROXY has a user name, which is only possible for a proxy"),
            ("http://me:hush@", "the variable HTTPS_PROXY is no URL (empty host); write it"),
            ("http://me:hush@proxy:99999", "the variable HTTPS_PROXY is no URL (invalid port number); write it"),
        ] {
            let wrong = found(SERVER, &[("HTTPS_PROXY", url)]).unwrap_err();
            assert!(wrong.starts_with(fault) && !wrong.contains("hush"), "{wrong}");
        }
        let proxy = Proxy::of_kubeconfig("http://me:hush@proxy:3128").unwrap();
        assert_eq!(proxy.to_string(), "the proxy http://proxy:3128 of `proxy-url` in the kubeconfig");
    }
}
