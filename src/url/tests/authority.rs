//! User, password, hosts and ports.

use super::*;

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
        "rpm+pgsql://a,,b/x",
        "rpm+pgsql://%2F%FF/x",
    ] {
        assert!(refusal(text).message.contains("host in URL"), "{text}");
    }
}

#[test]
fn a_unix_socket_stands_in_place_of_the_host() {
    for (scheme, port) in [("redis", 0), ("consul", 0), ("pgsql", 5432)] {
        let remote = remote_of(&format!("rpm+{scheme}://x:p@%2Frun%2Fa.sock/foo"));
        let host = "/run/a.sock".to_owned();
        assert_eq!(remote.server.addresses, [Address { host, port }]);
    }
    assert_eq!(
        remote_of("rpm+redis://%2Frun%2Fa.sock/foo").server.to_string(),
        "Redis at /run/a.sock"
    );
    for text in [
        "rpm+redis://%2Frun%2Fa.sock:1/foo",
        "rpm+redis://%2Frun%2Fa.sock/foo?tls=true",
        "rpm+etcd://%2Frun%2Fa.sock/foo",
    ] {
        refusal(text);
    }
}

#[test]
fn a_password_that_begins_with_a_slash_is_not_taken_for_the_name_of_the_lock() {
    for prefix in ["rpm+redis", "rpm+pgsql", "rpm+consul", "rpm+etcd"] {
        let error = refusal(&format!("{prefix}://x:/hunter2@h/id"));
        assert!(error.message.contains("percent-encoded"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    assert_eq!(remote_of("rpm+redis://h:/id").id, "id");
    assert_eq!(remote_of("rpm+redis://h/a@b").id, "a@b");
}
