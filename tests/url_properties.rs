//! What holds for every text whatsoever that is given as a mutex URL.

use ipc_mutex::error::Kind;
use ipc_mutex::url::{Scheme, Target, mask, parse};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

/// A text that nothing else in a generated URL can contain.
const MARK: &str = "Qz7Qz7";

fn scheme() -> impl Strategy<Value = Scheme> {
    prop::sample::select(Scheme::ALL.to_vec())
}

fn secret() -> impl Strategy<Value = String> {
    ("[^\0]{0,12}", "[^\0]{0,12}").prop_map(|(before, after)| format!("{before}{MARK}{after}"))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

prop_compose! {
    fn valid_url()(scheme in scheme(), secret in secret(), host in "[a-z][a-z0-9.-]{0,20}", port in 1u16..,
                   id in "[a-zA-Z0-9_.{}:@!$-]{1,30}", ttl in 10u32..=86400) -> (String, String) {
        let url = format!("{}://us3r:{}@{host}:{port}/{id}?ttl={ttl}&other=1", scheme.prefix(), encoded(&secret));
        (url, secret)
    }
}

/// Everything a caller can get out of a parse, as text.
fn everything_shown(text: &str) -> String {
    match parse(text) {
        Ok(parsed) => format!("{parsed:?}"),
        Err(error) => {
            assert_eq!(error.kind, Kind::InvalidUrl);
            assert!(error.message.len() < 1000, "message of {} bytes", error.message.len());
            assert!(
                !error.message.contains(char::is_control),
                "control character in {error:?}"
            );
            format!("{error} {error:?}")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_target_or_an_error(text in any::<String>()) {
        everything_shown(&text);
    }

    #[test]
    fn any_text_after_a_known_scheme_gives_a_target_or_an_error(
        prefix in prop::sample::select(vec!["spm:", "mpm:", "rpm+redis://", "rpm+pgsql://", "rpm+consul:", "rpm+etcd://"]),
        text in any::<String>(),
    ) {
        everything_shown(&format!("{prefix}{text}"));
    }

    #[test]
    fn texts_made_of_delimiters_give_a_target_or_an_error(text in "(rpm\\+(redis|pgsql|etcd)://)?[a1%:/?#@=&,\\[\\]+.\0ä-]{0,40}") {
        everything_shown(&text);
    }

    #[test]
    fn the_parts_of_a_valid_url_come_back(scheme in scheme(), user in "[^\0]{1,20}", password in secret(),
        host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., id in "[!-~&&[^/?#]]{1,30}", ttl in 10u64..=86400) {
        let url = format!("{}://{}:{}@{host}:{port}/{id}?ttl={ttl}", scheme.prefix(), encoded(&user), encoded(&password));
        let parsed = parse(&url).unwrap();
        let Target::Remote(remote) = parsed.target else { panic!("not remote") };
        prop_assert_eq!(remote.server.scheme, scheme);
        prop_assert_eq!(remote.id, id);
        prop_assert_eq!(&remote.server.addresses[0].host, &host);
        prop_assert_eq!(remote.server.addresses[0].port, port);
        prop_assert_eq!(remote.server.options.ttl.as_secs(), ttl);
        let secret = remote.server.credentials.password.unwrap();
        prop_assert_eq!(secret.reveal(), password.as_str());
        let has_user = matches!(scheme, Scheme::Pgsql | Scheme::Etcd);
        prop_assert_eq!(remote.server.credentials.user, has_user.then_some(user));
        prop_assert!(parsed.unknown_parameters.is_empty());
    }

    #[test]
    fn the_password_of_a_valid_url_is_never_shown((url, _) in valid_url()) {
        prop_assert!(!everything_shown(&url).contains(MARK));
        prop_assert!(!mask(&url).contains(MARK));
    }

    /// The characters before and after the password may be lost or doubled, and others put anywhere outside of it.
    #[test]
    fn the_password_of_a_mutated_url_is_never_shown(
        (url, _) in valid_url(), place in any::<prop::sample::Index>(), cut in 0usize..4, insert in "[a-z/?#%:+=& \0ä]{0,3}",
    ) {
        let mark = url.find(MARK).unwrap();
        let at = url.rfind('@').unwrap();
        let bytes: Vec<usize> = url.char_indices().map(|(index, _)| index).collect();
        let from = *place.get(&bytes);
        let to = bytes.iter().copied().find(|&index| index >= from + cut).unwrap_or(url.len());
        // A change inside of the mark, or one that takes the delimiter away, leaves no password to look for.
        let intact = (to <= mark || from >= mark + MARK.len()) && (to <= at || from > at);
        if !intact {
            return Ok(());
        }
        let mutated = format!("{}{insert}{}", &url[..from], &url[to..]);
        let shown = match parse(&mutated) {
            // A slash before the password makes it a path, of which the id is meant to be seen.
            Ok(_) => return Ok(()),
            Err(error) => format!("{error:?}"),
        };
        prop_assert!(!shown.contains(MARK), "{mutated:?} gives {shown}");
    }

    #[test]
    fn a_raw_password_in_a_url_of_unknown_scheme_is_never_shown(secret in secret(), user in "[a-z]{0,8}", scheme in "[a-z+]{0,8}") {
        let shown = everything_shown(&format!("{scheme}://{user}:{secret}@host/id"));
        prop_assert!(!shown.contains(MARK), "{shown}");
    }
}
