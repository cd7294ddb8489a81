mod authority;
mod query;

use super::*;

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
fn locks_of_a_machine_may_name_their_folder() {
    let lpm = |id: &str, dir: Option<&str>| Target::Lpm {
        id: id.into(),
        dir: dir.map(Into::into),
    };
    assert_eq!(parse("lpm:foo").unwrap().target, lpm("foo", None));
    assert_eq!(parse("lpm:foo?dir=/a%20b").unwrap().target, lpm("foo", Some("/a b")));
    assert_eq!(parse("lpm:foo?dri=/a").unwrap().unknown_parameters, ["dri"]);
    for query in ["dir=", "dir=a/b", "dir=./a", "dir=/a&dir=/a", "dir=/a%00"] {
        assert_eq!(refusal(&format!("lpm:foo?{query}")).kind, Kind::InvalidUrl, "{query}");
    }
}

#[test]
fn local_ids_are_refused_in_the_words_of_1x() {
    for text in ["spm:", "mpm:", "lpm:", "lpm:?dir=/a"] {
        assert_eq!(refusal(text).message, "no mutex id given");
    }
    for id in ["1x", "-a", "a_b", "a b", "ä", "a\0", "a.b", "//a", "a?x=1", "a\n"] {
        for model in ["spm", "mpm"] {
            let message = refusal(&format!("{model}:{id}")).message;
            assert!(
                message.starts_with("invalid mutex id given: an id starts with a letter"),
                "{id:?}: {message}"
            );
        }
    }
    let error = refusal(&format!("spm:{}", "a".repeat(10_240)));
    assert!(
        error.message.starts_with("invalid mutex id given: 10240 bytes"),
        "{error}"
    );
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
        "lpmx:foo",
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
fn what_follows_the_id_is_ignored_and_told() {
    let ignored = |text: &str| parse(text).unwrap().ignored_path;
    assert_eq!(ignored("rpm+redis://h/orders/1?ttl=5"), "/1");
    assert_eq!(ignored("rpm+etcd://h/0/name/x"), "/name/x");
    for text in ["rpm+redis://h/a", "rpm+redis://h/a/", "rpm+pgsql://h/db/a", "spm:a"] {
        assert_eq!(ignored(text), "", "{text}");
    }
}

#[test]
fn a_url_of_another_library_is_told_what_it_would_be_here() {
    for (text, meant) in [
        ("redis://h/x", "rpm+redis://"),
        ("rpm+rediss://h/x", "rpm+redis:// with tls=true"),
        ("rpm+valkey://h/x", "rpm+redis://"),
        ("postgres://u:hunter2@h/x", "rpm+pgsql://"),
        ("rpm+PostgreSQL://h/x", "rpm+pgsql://"),
        ("etcd://h/x", "rpm+etcd://"),
    ] {
        let error = refusal(text);
        let shown = text.replace("hunter2", "***");
        assert_eq!(
            error.message,
            format!("unknown implementation strategy \"{shown}\": did you mean {meant}?")
        );
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
fn a_url_has_a_greatest_length() {
    let error = refusal(&format!("rpm+redis://h/{}", "x".repeat(10_240)));
    assert!(error.message.starts_with("URL too long: 10254 bytes"), "{error}");
}
