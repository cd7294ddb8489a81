use super::*;
use crate::options::Tls;
use std::path::Path;
use std::time::Duration;

fn remote_of(text: &str) -> Remote {
    match parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).target {
        Target::Remote(remote) => remote,
        other => panic!("{text} gives {other:?}"),
    }
}

fn options_of(text: &str) -> RemoteOptions {
    remote_of(text).server.options
}

fn refusal(text: &str) -> Error {
    let error = parse(text).expect_err(text);
    assert_eq!(error.kind, Kind::InvalidUrl, "{text}");
    error
}

#[test]
fn local_models_take_the_id_after_the_colon() {
    let spm = parse("spm:foo").unwrap();
    assert_eq!(spm.target, Target::Spm { id: "foo".into() });
    assert!(spm.unknown_parameters.is_empty());
    let id = "A-1-b".into();
    assert_eq!(parse("mpm:A-1-b").unwrap().target, Target::Mpm { id });
}

#[test]
fn local_ids_are_refused_in_the_words_of_1x() {
    for text in ["spm:", "mpm:"] {
        assert_eq!(refusal(text).message, "no mutex id given");
    }
    for id in ["1x", "-a", "a_b", "a b", "ä", "a\0", "a.b", "//a", "a?x=1", "a\n"] {
        for model in ["spm", "mpm"] {
            assert_eq!(
                refusal(&format!("{model}:{id}")).message,
                "invalid mutex id given",
                "{id:?}"
            );
        }
    }
    let error = refusal(&format!("spm:{}", "a".repeat(10_240)));
    assert_eq!(error.message, "invalid mutex id given");
    assert!(error.cause.unwrap().contains("10240 bytes"));
}

#[test]
fn an_unknown_scheme_is_quoted_in_the_words_of_1x() {
    let strategy = |text: &str| format!("unknown implementation strategy \"{text}\"");
    for text in [
        "",
        "foo",
        "foo:bar",
        "spm",
        "rpm:",
        "lpm:foo",
        "http://localhost:8080/x",
        "rpm+foo://[::1]:1/id",
        "42",
    ] {
        let error = refusal(text);
        assert_eq!(error.message, strategy(text));
        assert!(error.cause.unwrap().contains("rpm+redis://"));
    }
    assert_eq!(refusal("a\0b").message, strategy("a\\0b"));
    let long = refusal(&format!("foo:{}", "x".repeat(10_240)));
    assert!(long.message.len() < 200 && long.message.ends_with("x…\""), "{long}");
}

#[test]
fn a_secret_is_masked_however_malformed_the_url_is() {
    let cases = [
        ("foo://u:hunter2@host/id", "foo://u:***@host/id"),
        ("foo://:hunter2@host/id", "foo://:***@host/id"),
        ("foo://hunter2@host/id", "foo://***@host/id"),
        ("foo://u:hun/ter2@host/id", "foo://u:***@host/id"),
        ("foo://u:hun@ter2@host/id", "foo://u:***@host/id"),
        ("foo://u:hun#te?r2@host", "foo://u:***@host"),
        ("foo://u:hun://ter2@host", "foo://u:***@host"),
        ("x:hunter2@host:6379/id", "x:***@host:6379/id"),
        ("hunter2@host", "***@host"),
        ("re dis://hunter2@host", "***@host"),
        ("foo://u:hunter2", "foo://u:***"),
        ("foo://u:hunter2/id", "foo://u:***/id"),
        ("foo://h/id?password=hunter2&ttl=5", "foo://h/id?password=***&ttl=5"),
    ];
    for (text, shown) in cases {
        assert_eq!(
            refusal(text).message,
            format!("unknown implementation strategy \"{shown}\"")
        );
    }
}

#[test]
fn remote_urls_have_defaults_for_everything_but_host_and_id() {
    let ports = [6379, 5432, 8500, 2379];
    for (scheme, port) in Scheme::ALL.into_iter().zip(ports) {
        let remote = remote_of(&format!("{}://db.example/my_lock", scheme.prefix()));
        assert_eq!(remote.id, "my_lock");
        assert_eq!(remote.server.scheme, scheme);
        let host = "db.example".to_owned();
        assert_eq!(remote.server.addresses, [Address { host, port }]);
        assert_eq!(remote.server.credentials, Credentials::default());
        assert_eq!(remote.server.options, RemoteOptions::default());
        let database = (scheme == Scheme::Pgsql).then(|| "template1".to_owned());
        assert_eq!(remote.server.database, database);
    }
}

#[test]
fn the_id_is_the_first_segment_as_it_stands() {
    for (path, id) in [
        ("/a%20b", "a%20b"),
        ("/a/b", "a"),
        ("/a/", "a"),
        ("/{a}.b:c@d", "{a}.b:c@d"),
        ("/a#b", "a"),
    ] {
        assert_eq!(remote_of(&format!("rpm+redis://h{path}")).id, id);
    }
}

#[test]
fn the_path_of_pgsql_may_begin_with_a_database() {
    let remote = remote_of("rpm+pgsql://u:p@h:1/my%20db/lock");
    assert_eq!(remote.server.database.as_deref(), Some("my db"));
    assert_eq!(remote.id, "lock");
    for path in ["/a/b/c", "/a/", "/a//b", "//a"] {
        let error = refusal(&format!("rpm+pgsql://h{path}"));
        assert_eq!(error.message, "invalid pathname in URL", "{path}");
    }
    let error = refusal("rpm+pgsql://h/%FF/lock");
    assert!(error.message.starts_with("invalid database in URL"));
}

#[test]
fn a_wrong_path_is_refused_in_the_words_of_1x() {
    for prefix in Scheme::ALL.map(Scheme::prefix) {
        for rest in ["", "//", "//h", "//h:1", "//h?ttl=10", "//h#x", "//u:p@h"] {
            assert_eq!(refusal(&format!("{prefix}:{rest}")).message, "missing pathname in URL");
        }
        for rest in ["//h/", "//h//a", "foo", "//h/a b", "//h/ä", "//h/a\0b", "//h/a\tb"] {
            assert_eq!(
                refusal(&format!("{prefix}:{rest}")).message,
                "invalid pathname in URL",
                "{rest:?}"
            );
        }
    }
}

#[test]
fn user_and_password_are_percent_decoded() {
    let server = remote_of("rpm+pgsql://j%40ne:p%3As%2Fs%C3%A4@h/x").server;
    assert_eq!(server.credentials.user.as_deref(), Some("j@ne"));
    assert_eq!(server.credentials.password.unwrap().reveal(), "p:s/sä");
    let server = remote_of("rpm+etcd://root@h/x").server;
    assert_eq!(server.credentials.user.as_deref(), Some("root"));
    assert_eq!(server.credentials.password, None);
    for text in ["rpm+etcd://:@h/x", "rpm+etcd://@h/x"] {
        assert_eq!(remote_of(text).server.credentials, Credentials::default());
    }
}

#[test]
fn redis_and_consul_ignore_the_user() {
    for prefix in ["rpm+redis", "rpm+consul"] {
        let server = remote_of(&format!("{prefix}://x:secret@h/id")).server;
        assert_eq!(server.credentials.user, None);
        assert_eq!(server.credentials.password.unwrap().reveal(), "secret");
    }
}

#[test]
fn credentials_that_cannot_be_decoded_are_refused_unquoted() {
    for text in [
        "rpm+pgsql://u:hunter2%FF@h/x",
        "rpm+pgsql://u:hunter2%00@h/x",
        "rpm+redis://x:hunter2%FF@h/x",
    ] {
        let error = refusal(text);
        assert!(error.message.starts_with("invalid password in URL"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    assert!(
        refusal("rpm+etcd://%FF:a@h/x")
            .message
            .starts_with("invalid user in URL")
    );
}

#[test]
fn hosts_may_be_names_and_addresses() {
    let cases = [
        ("localhost:", "localhost", 6379),
        ("my_redis:1", "my_redis", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]", "::1", 6379),
        ("[2001:db8::2]:7000", "2001:db8::2", 7000),
    ];
    for (text, host, port) in cases {
        let host = host.to_owned();
        assert_eq!(
            remote_of(&format!("rpm+redis://{text}/x")).server.addresses,
            [Address { host, port }]
        );
    }
}

#[test]
fn etcd_takes_a_list_of_hosts() {
    let server = remote_of("rpm+etcd://u:p@h1:1,h2,[::1]:3/x").server;
    let shown: Vec<_> = server
        .addresses
        .iter()
        .map(|address| (address.host.as_str(), address.port))
        .collect();
    assert_eq!(shown, [("h1", 1), ("h2", 2379), ("::1", 3)]);
    for text in ["rpm+redis://a,b/x", "rpm+etcd://a,/x", "rpm+etcd://,a/x"] {
        assert!(refusal(text).message.starts_with("invalid host in URL"), "{text}");
    }
}

#[test]
fn a_wrong_host_or_port_is_named_but_not_quoted() {
    for text in ["rpm+redis:///x", "rpm+redis://u:hunter2@/x", "rpm+redis:/x"] {
        assert!(refusal(text).message.starts_with("missing host in URL"), "{text}");
    }
    for host in ["ä", "a b", "[::1", "::1]", "[hunter2]", "%41", "a\0", ":6379", "\\"] {
        let error = refusal(&format!("rpm+redis://{host}/x"));
        assert!(error.message.starts_with("invalid host in URL"), "{host}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    for port in ["0", "65536", "hunter2", "-1", "+1", "1:2"] {
        let error = refusal(&format!("rpm+redis://h:{port}/x"));
        assert!(error.message.starts_with("invalid port in URL"), "{port}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    assert!(
        refusal("rpm+redis://[::1]x/a")
            .message
            .starts_with("invalid port in URL")
    );
}

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
    let parsed = parse("rpm+consul://h/x?user=a&db=b&lockdelay=1").unwrap();
    assert_eq!(parsed.unknown_parameters, ["user", "db"]);
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
fn a_url_has_a_greatest_length() {
    let error = refusal(&format!("rpm+redis://h/{}", "x".repeat(10_240)));
    assert!(error.message.starts_with("URL too long: 10254 bytes"), "{error}");
}

#[test]
fn pgsql_takes_several_hosts_and_the_folders_of_sockets() {
    let hosts = |text: &str| {
        let addresses = remote_of(text).server.addresses;
        addresses
            .into_iter()
            .map(|Address { host, port }| format!("{host} {port}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(hosts("rpm+pgsql://a,b:6,[::1]:7/x"), ["a 5432", "b 6", "::1 7"]);
    assert_eq!(
        hosts("rpm+pgsql://u@%2Fvar%2frun:5433,b/x"),
        ["/var/run 5433", "b 5432"]
    );
    for text in [
        "rpm+redis://a,b/x",
        "rpm+consul://a,b/x",
        "rpm+redis://%2Frun/x",
        "rpm+pgsql://a,,b/x",
        "rpm+pgsql://%2F%FF/x",
    ] {
        assert!(refusal(text).message.contains("host in URL"), "{text}");
    }
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
