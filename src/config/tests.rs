//! Tests of the settings: which source wins, and the one line for each wrong one.

use clap::{Command, FromArgMatches};
use secrecy::ExposeSecret;

use super::*;

fn from_environment(pairs: &[(&str, &str)]) -> Result<Settings, String> {
    let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&Sources { environment, ..Sources::default() }).map_err(|e| e.to_string())
}

fn refused(pairs: &[(&str, &str)]) -> String {
    let line = from_environment(pairs).expect_err("must be refused");
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

/// A file that is gone after the test.
struct Temporary(std::path::PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Temporary {
    fn text(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    fn source(&self) -> Sources {
        Sources { file: Some(self.0.clone()), ..Sources::default() }
    }
}

fn temporary(name: &str, text: &str) -> Temporary {
    let path = std::env::temp_dir().join(format!("riskfleet-config-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    Temporary(path)
}

#[test]
fn the_defaults_are_whole_and_pass_their_own_check() {
    let s = from_environment(&[]).expect("defaults");
    assert_eq!((s.namespace.as_str(), s.http_addr.to_string().as_str()), ("riskfleet", "127.0.0.1:8080"));
    assert_eq!((s.auth, s.queue_type, s.log_format), (Auth::On, QueueType::Quorum, LogFormat::Human));
    assert_eq!((s.partitions, s.lanes, s.weight, s.prefetch), (16, 2, 1, 24));
    assert_eq!((s.pack_bytes_max, s.body_bytes_max, s.event_bytes_max), (131_072, 4 << 20, 256 << 10));
    assert_eq!((s.accept_queue_events, s.unpublished_max), (20_000, 1_000_000));
    assert_eq!((s.drain_timeout(), s.request_timeout()), (Duration::from_secs(30), Duration::from_secs(30)));
    assert!(s.database_url.is_none() && s.master_key.is_none());
    let missing = s.database_url().expect_err("not set").to_string();
    assert!(missing.contains("RISKFLEET_DATABASE_URL") && missing.contains("postgres://"), "{missing}");
}

#[test]
fn off_loopback_a_listener_has_tls_or_a_proxy() {
    let (off, cert, key) = (
        ("RISKFLEET_HTTP_ADDR", "[::]:443"),
        ("RISKFLEET_TLS_CERT_FILE", "/c.pem"),
        ("RISKFLEET_TLS_KEY_FILE", "/k.pem"),
    );
    assert!(from_environment(&[off, cert, key]).expect("legal").tls_cert_file.is_some());
    assert!(from_environment(&[off, ("RISKFLEET_BEHIND_PROXY", "true")]).is_ok());
}

#[test]
fn each_source_goes_over_the_one_before() {
    let file = temporary("layers.toml", "partitions = 2\nlanes = 3\nweight = 4\nnamespace = \"file\"\n");
    let mut sources = Sources {
        defaults: vec![("partitions", "1".into()), ("auth", "off".into()), ("lanes", "9".into())],
        file: Some(file.0.clone()),
        environment: vec![("RISKFLEET_LANES".into(), "5".into()), ("RISKFLEET_WEIGHT".into(), "6".into())],
        flags: vec![("weight".into(), "7".into())],
    };
    let s = load(&sources).expect("all legal");
    assert_eq!((s.auth, s.partitions, s.lanes, s.weight, s.namespace.as_str()), (Auth::Off, 2, 5, 7, "file"));
    sources.flags.push(("lanes".into(), "0".into()));
    assert_eq!(load(&sources).expect_err("0").to_string(), "--lanes must be a whole number from 1 to 64, not 0");
}

#[test]
fn each_wrong_value_is_named_with_what_was_expected() {
    let cases = [
        ("RISKFLEET_NAMESPACE", "9x", "a small letter followed by"),
        ("RISKFLEET_NAMESPACE", "a-b", "a small letter followed by"),
        ("RISKFLEET_NAMESPACE", &"a".repeat(32), "a small letter followed by"),
        ("RISKFLEET_HTTP_ADDR", "8080", "an IP address and port (127.0.0.1:8080), not \"8080\""),
        ("RISKFLEET_AUTH", "maybe", "on or off, not \"maybe\""),
        ("RISKFLEET_PARTITIONS", "0", "a whole number from 1 to 4096, not 0"),
        ("RISKFLEET_PARTITIONS", "x", "a whole number from 1 to 4096, not \"x\""),
        ("RISKFLEET_PARTITIONS", "-3", "a whole number from 1 to 4096, not \"-3\""),
        ("RISKFLEET_PARTITIONS", "99999999999999999999999", "a whole number from 1 to 4096"),
        ("RISKFLEET_BEHIND_PROXY", "yes", "true or false, not \"yes\""),
        ("RISKFLEET_QUEUE_TYPE", "Quorum", "quorum or classic, not \"Quorum\""),
        ("RISKFLEET_LOG", "loud", "a level (off, error"),
        ("RISKFLEET_LOG", "info,,x=debug", "a level (off, error"),
        ("RISKFLEET_LOG_FORMAT", "xml", "human or json, not \"xml\""),
        ("RISKFLEET_DATABASE_URL", "mysql://root:hunter2@h/d", "a URL that begins with postgres://"),
        ("RISKFLEET_AMQP_URL", "amqp://", "a URL that begins with amqp://"),
        ("RISKFLEET_REDIS_URL", "localhost", "a URL that begins with redis://"),
        ("RISKFLEET_JWT_SECRET", "hunter2", "a text of at least 32 bytes"),
        ("RISKFLEET_MASTER_KEY", "hunter2", "64 hex digits"),
        ("RISKFLEET_MASTER_KEY", &"g".repeat(64), "64 hex digits"),
    ];
    for (name, value, expected) in cases {
        let line = refused(&[(name, value)]);
        assert!(line.starts_with(&format!("{name} must be {expected}")), "{line}");
        assert!(!line.contains("hunter2"), "a secret is shown: {line}");
    }
}

#[test]
fn settings_are_held_against_each_other() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("RISKFLEET_HTTP_ADDR", "0.0.0.0:80"), ("RISKFLEET_AUTH", "off")], "auth must be on"),
        (
            &[("RISKFLEET_HTTP_ADDR", "[::]:80")],
            "behind_proxy must be true for http_addr [::]:80, or tls_cert_file and tls_key_file given",
        ),
        (&[("RISKFLEET_TLS_CERT_FILE", "/c.pem")], "tls_cert_file and tls_key_file must be given together"),
        (&[("RISKFLEET_TLS_KEY_FILE", "/k.pem")], "tls_cert_file and tls_key_file must be given together"),
        (&[("RISKFLEET_INBOX_USERS", "shop")], "RISKFLEET_INBOX_USERS must be user=tenant"),
        (&[("RISKFLEET_INBOX_USERS", "shop=_platform")], "RISKFLEET_INBOX_USERS must be user=tenant"),
        (&[("RISKFLEET_BODY_BYTES_MAX", "1024")], "event_bytes_max must be at most body_bytes_max (1024)"),
        (
            &[("RISKFLEET_HTTP_ADDR", "0.0.0.0:80"), ("RISKFLEET_AUTH", "off"), ("RISKFLEET_BEHIND_PROXY", "true")],
            "auth must be on",
        ),
    ];
    for (pairs, expected) in cases {
        let line = refused(pairs);
        assert!(line.starts_with(expected), "{line}");
    }
    from_environment(&[("RISKFLEET_HTTP_ADDR", "[::1]:80"), ("RISKFLEET_AUTH", "off")]).expect("loopback");
    from_environment(&[("RISKFLEET_HTTP_ADDR", "0.0.0.0:80"), ("RISKFLEET_BEHIND_PROXY", "true")]).expect("proxied");
}

#[test]
fn unknown_names_stop_the_start_and_foreign_ones_do_not() {
    assert_eq!(refused(&[("RISKFLEET_NAMESPCE", "x")]), "RISKFLEET_NAMESPCE is no setting: did you mean namespace?");
    assert_eq!(refused(&[("RISKFLEET_COLOUR", "")]), "RISKFLEET_COLOUR is no setting: `--help` lists all");
    assert!(refused(&[("RISKFLEET_Lanes", "2")]).contains("did you mean lanes?"));
    assert!(refused(&[("RISKFLEET_LANES_FILE", "/x")]).starts_with("RISKFLEET_LANES_FILE is no setting"));
    from_environment(&[
        ("RISKFLEET_TEST_DATABASE_URL", "x"),
        ("RISKFLEET_CONFIG", "x"),
        ("OTHER", "x"),
        ("RISKFLEET_JWT_SECRET", ""),
    ])
    .expect("not ours, or not given");
    let file = temporary("unknown.toml", "lane = 2\n");
    let line = load(&file.source()).expect_err("unknown").to_string();
    assert!(line.starts_with("lane in ") && line.ends_with("is no setting: did you mean lanes?"), "{line}");
}

#[test]
fn a_broken_file_is_named_with_its_line_and_without_its_text() {
    let file = temporary("broken.toml", "lanes = 2\njwt_secret = \"hunter2\n");
    let line = load(&file.source()).expect_err("broken").to_string();
    assert!(line.starts_with("--config must name a TOML file: ") && line.contains("line 2"), "{line}");
    assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
    let gone = Sources { file: Some("/nowhere/x.toml".into()), ..Sources::default() };
    assert!(load(&gone).expect_err("gone").to_string().starts_with("--config must name a readable file: /nowhere"));
    let typed = temporary("typed.toml", "lanes = \"two\"\n");
    let line = load(&typed.source()).expect_err("typed").to_string();
    assert_eq!(line, "lanes (settings file) must be a whole number from 1 to 64, not \"two\"");
}

#[test]
fn a_secret_can_stand_in_a_file_of_its_own() {
    let digits = "0".repeat(64);
    let path = temporary("key", &format!("{digits}\n"));
    let path = path.text();
    let s = from_environment(&[("RISKFLEET_MASTER_KEY_FILE", path)]).expect("read");
    assert_eq!(s.master_key().expect("set").expose_secret(), &[0; 32]);
    assert!(!format!("{s:?}").contains(&digits), "secrets are not shown");
    let both = refused(&[("RISKFLEET_MASTER_KEY_FILE", path), ("RISKFLEET_MASTER_KEY", &digits)]);
    assert!(both.contains("RISKFLEET_MASTER_KEY_FILE and RISKFLEET_MASTER_KEY are both given"), "{both}");
    let gone = refused(&[("RISKFLEET_JWT_SECRET_FILE", "/nowhere/secret")]);
    assert!(gone.starts_with("RISKFLEET_JWT_SECRET_FILE must name a readable file: /nowhere/secret"), "{gone}");
    let short = temporary("short", "hunter2");
    let short = refused(&[("RISKFLEET_JWT_SECRET_FILE", short.text())]);
    assert_eq!(short, "RISKFLEET_JWT_SECRET must be a text of at least 32 bytes");
}

#[test]
fn every_setting_is_a_flag_and_secrets_only_by_file() {
    let command = <Flags as clap::Args>::augment_args(Command::new("x"));
    let long: Vec<String> = command.get_arguments().filter_map(|a| a.get_long().map(String::from)).collect();
    for setting in settings() {
        let want = if setting.is_secret() { format!("{}-file", setting.flag()) } else { setting.flag() };
        assert!(long.contains(&want), "--{want} is missing");
    }
    assert!(!long.contains(&"jwt-secret".to_owned()));
    let matches = command.get_matches_from(["x", "--lanes", "7", "--jwt-secret-file", "/s"]);
    let flags = Flags::from_arg_matches(&matches).expect("reads");
    let mut given = flags.given;
    given.sort();
    assert_eq!(given, [("jwt_secret_file".into(), "/s".into()), ("lanes".into(), "7".into())]);
}
