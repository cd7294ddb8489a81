//! The parameters.

use super::*;
use crate::options::Tls;
use std::path::Path;
use std::time::Duration;

#[test]
fn every_option_is_read() {
    let text = "rpm+redis://h/x?tls=true&ca=%2Fa%20b/ca.pem&crt=c.pem&key=k+1.pem&ttl=2.5&connect_timeout=1\
                &max_hold=60&user=app&db=3";
    let options = options_of(text);
    assert_eq!(options.tls, Tls::Verify);
    assert_eq!(options.ca.as_deref(), Some(Path::new("/a b/ca.pem")));
    assert_eq!(options.crt.as_deref(), Some(Path::new("c.pem")));
    assert_eq!(options.key.as_deref(), Some(Path::new("k 1.pem")));
    assert_eq!(options.ttl, Duration::from_millis(2500));
    assert_eq!(options.connect_timeout, Duration::from_secs(1));
    assert_eq!(options.max_hold, Some(Duration::from_secs(60)));
    assert_eq!(options.redis_user.as_deref(), Some("app"));
    assert_eq!(options.redis_database, 3);
    let options = options_of("rpm+consul://h/x?lockdelay=0&readwait=0.5");
    assert_eq!(options.lock_delay, Duration::ZERO);
    assert_eq!(options.read_wait, Duration::from_millis(500));
}

#[test]
fn certificate_files_imply_tls_unless_it_is_named() {
    let tls = |query: &str| options_of(&format!("rpm+redis://h/x?{query}")).tls;
    assert_eq!(tls(""), Tls::Off);
    assert_eq!(tls("ca=a.pem"), Tls::Verify);
    assert_eq!(tls("crt=a.pem&key=b.pem"), Tls::Verify);
    assert_eq!(tls("ca=a.pem&tls=insecure"), Tls::Insecure);
    assert_eq!(tls("tls=false&ca=a.pem"), Tls::Off);
    for query in ["crt=a.pem", "key=a.pem", "ca=", "tls=", "tls", "tls=1", "tls=TRUE"] {
        refusal(&format!("rpm+redis://h/x?{query}"));
    }
}

#[test]
fn the_shortest_ttl_depends_on_the_server() {
    let cases = [
        (Scheme::Redis, "0.1", "0.09"),
        (Scheme::Pgsql, "1", "0.9"),
        (Scheme::Consul, "10", "9.9"),
        (Scheme::Etcd, "2", "1"),
    ];
    for (scheme, good, bad) in cases {
        let text = |ttl: &str| format!("{}://h/x?ttl={ttl}", scheme.prefix());
        let expected = Duration::from_millis((good.parse::<f64>().unwrap() * 1000.0) as u64);
        assert_eq!(options_of(&text(good)).ttl, expected);
        let error = refusal(&text(bad));
        assert!(error.message.contains(&format!("from {good} to 86400")), "{error}");
    }
    assert!(
        refusal("rpm+etcd://h/x?ttl=2.5")
            .message
            .contains("whole number of seconds")
    );
}

#[test]
fn a_number_is_plain_or_refused() {
    for value in [
        "",
        "x",
        "-1",
        "1e3",
        "inf",
        "NaN",
        "1.2.3",
        ".",
        "+1",
        "86401",
        "10s",
        "1,5",
        "9".repeat(400).as_str(),
    ] {
        let error = refusal(&format!("rpm+redis://h/x?ttl={value}"));
        assert!(
            error.message.starts_with("invalid parameter ttl in URL"),
            "{value}: {error}"
        );
    }
    for value in ["", "-1", "x", "1.5", "4294967296", "2147483648", "+1"] {
        refusal(&format!("rpm+redis://h/x?db={value}"));
    }
}

#[test]
fn unknown_parameters_are_reported_by_name_only() {
    let parsed = parse("rpm+redis://h/x?timeout=hunter2&ttl=5&lockdelay=1&&flag").unwrap();
    assert_eq!(parsed.unknown_parameters, ["timeout", "lockdelay", "flag"]);
    let parsed = parse("rpm+consul://h/x?db=b&lockdelay=1").unwrap();
    assert_eq!(parsed.unknown_parameters, ["db"]);
}

#[test]
fn a_known_parameter_stands_once() {
    assert!(
        refusal("rpm+redis://h/x?ttl=5&ttl=6")
            .message
            .contains("ttl is given twice")
    );
}

#[test]
fn a_pair_of_integers_is_the_key_and_the_id_stays_what_is_shown() {
    let remote = remote_of("rpm+pgsql://h/db/my-lock?pair=-107789403,1");
    assert_eq!(remote.id, "\u{1}pair:-107789403,1/my-lock");
    assert_eq!(shown(&remote.id), "my-lock");
    assert_eq!(shown("pair:1,2/x"), "pair:1,2/x");
    assert_eq!(remote_of("rpm+pgsql://h/a,b?pair=1%2C2").id, format!("{PAIR}1,2/a,b"));
    for pair in ["", "1", "1,", "1,2,3", "1,2147483648", "a,b", "1, 2"] {
        let error = refusal(&format!("rpm+pgsql://h/x?pair={pair}"));
        assert!(error.message.contains("two signed 32-bit integers"), "{pair}");
    }
    assert_eq!(parse("rpm+redis://h/x?pair=1,2").unwrap().unknown_parameters, ["pair"]);
}

#[test]
fn the_ways_of_libpq_to_use_tls_are_for_pgsql_only() {
    for (value, tls) in [("verify-ca", Tls::Chain), ("prefer", Tls::Prefer)] {
        assert_eq!(options_of(&format!("rpm+pgsql://h/x?tls={value}")).tls, tls);
        let error = refusal(&format!("rpm+redis://h/x?tls={value}"));
        assert!(error.message.starts_with("invalid parameter tls"));
    }
    let options = options_of("rpm+pgsql://h/x?application_name=my%20app");
    assert_eq!(
        (options.application_name.as_deref(), options.max_waiting),
        (Some("my app"), 8)
    );
    assert_eq!(options_of("rpm+pgsql://h/x?max_waiting=40").max_waiting, 40);
    for wrong in ["", "0", "-1", "+8", "1.5", "10001"] {
        let error = refusal(&format!("rpm+pgsql://h/x?max_waiting={wrong}"));
        assert!(error.message.starts_with("invalid parameter max_waiting"), "{wrong}");
    }
}

#[test]
fn a_parameter_that_asks_for_protection_in_other_words_is_refused() {
    for name in [
        "sslmode",
        "ssl",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "tls_ca",
        "TLS",
        "cafile",
        "rejectUnauthorized",
        "Key",
        "tls-skip-verify",
        "channel_binding",
        "gssencmode",
        "password",
        "auth",
        "token",
        "username",
    ] {
        for scheme in Scheme::ALL {
            let error = refusal(&format!("{}://h/x?{name}=hunter2", scheme.prefix()));
            assert!(
                error
                    .message
                    .starts_with(&format!("unknown parameter \"{name}\" in URL: write ")),
                "{error}"
            );
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
    assert!(
        refusal("rpm+pgsql://h/x?user=a")
            .message
            .contains("rpm+pgsql://<user>:<password>@<host>")
    );
    let error = refusal("rpm+redis://x:1/foo?ssl-hunter2@h/x");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
