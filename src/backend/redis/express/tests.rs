use super::*;
use crate::backend::{Owner, Stage};
use crate::core::lease::{Lease, Terms};
use crate::core::mode::Mode;
use crate::url::{self, Target};
use std::cell::Cell;
use std::time::Duration;

fn wire(text: &str) -> Box<dyn Wire> {
    let Target::Remote(remote) = url::parse(text).unwrap().target else {
        panic!()
    };
    let identity = Arc::new(Identity {
        host: "here".into(),
        pid: 7,
        instance: "abc".into(),
    });
    express(&remote.server, &identity).unwrap()
}

fn ask(fenced: bool) -> Ask {
    Ask {
        id: "foo".into(),
        owner: Owner("abc-x1".into()),
        mode: Mode::Exclusive,
        attempt: Attempt::Wait,
        fenced,
        label: Some("näme".into()),
        thread: 0,
        since: 5,
        stage: Cell::new(Stage::Waiting),
        waited: Cell::new(false),
        lease: Lease::new(Terms {
            ttl: Duration::from_secs(10),
            renew_every: Duration::from_secs(3),
        }),
    }
}

fn words(bytes: &[u8]) -> Vec<String> {
    redis::from_redis_value(redis::parse_redis_value(bytes).unwrap()).unwrap()
}

fn asked(wire: &mut dyn Wire, ask: &Ask) -> Vec<String> {
    let mut out = Vec::new();
    wire.ask(ask, false, &mut out);
    words(&out)
}

fn answer(wire: &mut dyn Wire, question: Question) -> Result<Option<Answer>, Garbled> {
    wire.answer(question)
}

#[test]
fn the_greeting_logs_in_and_names_the_connection() {
    let mut out = Vec::new();
    let mut wire = wire("rpm+redis://x:a%20b@h/foo?user=me&db=3");
    assert_eq!(wire.greet("name", &mut out), 3);
    let hello = frame::length(&out).unwrap().unwrap();
    assert_eq!(
        words(&out[..hello]),
        ["HELLO", "3", "AUTH", "me", "a b", "SETNAME", "name"]
    );
    let select = hello + frame::length(&out[hello..]).unwrap().unwrap();
    assert_eq!(words(&out[hello..select]), ["SELECT", "3"]);
    assert_eq!(words(&out[select..]), ["SUBSCRIBE", "IPC-Mutex-rpm:name"]);
    wire.feed(b"%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:42\r\n+O");
    let welcome = |client| Ok(Some(Answer::Welcome { client }));
    assert_eq!(answer(&mut *wire, Question::Greeting), welcome(Some(42)));
    assert_eq!(answer(&mut *wire, Question::Greeting), Ok(None));
    wire.feed(b"K\r\n");
    assert_eq!(answer(&mut *wire, Question::Greeting), welcome(None));
    assert!(!wire.listens());
    wire.feed(b">3\r\n$9\r\nsubscribe\r\n$4\r\nname\r\n:1\r\n");
    assert_eq!(answer(&mut *wire, Question::Greeting), welcome(None));
    assert!(wire.listens());
}

#[test]
fn who_may_not_log_in_has_no_lane_and_who_may_not_subscribe_cannot_wait_there() {
    let mut wire = wire("rpm+redis://h/foo");
    assert_eq!(wire.greet("name", &mut Vec::new()), 2);
    wire.feed(b"-WRONGPASS no\r\n-NOPERM no\r\n");
    assert_eq!(answer(&mut *wire, Question::Greeting), Ok(Some(Answer::Unclear)));
    assert_eq!(
        answer(&mut *wire, Question::Greeting),
        Ok(Some(Answer::Welcome { client: None }))
    );
    assert!(!wire.listens());
}

#[test]
fn a_replica_has_no_lane_and_a_server_that_has_become_one_has_it_no_more() {
    let mut wire = wire("rpm+redis://h/foo");
    wire.greet("name", &mut Vec::new());
    wire.feed(b"%2\r\n$2\r\nid\r\n:42\r\n$4\r\nrole\r\n$7\r\nreplica\r\n");
    assert_eq!(answer(&mut *wire, Question::Greeting), Ok(Some(Answer::Unclear)));
    wire.feed(b"-READONLY no\r\n-OOM no\r\n");
    assert_eq!(answer(&mut *wire, Question::Ask), Ok(Some(Answer::Elsewhere)));
    assert_eq!(answer(&mut *wire, Question::Ask), Ok(Some(Answer::Unclear)));
}

#[test]
fn a_script_is_sent_whole_until_the_server_has_it_and_again_when_it_has_forgotten_it() {
    let mut wire = wire("rpm+redis://h/foo");
    assert_eq!(asked(&mut *wire, &ask(false))[0], "EVAL");
    wire.feed(b":1\r\n");
    assert_eq!(
        answer(&mut *wire, Question::Ask),
        Ok(Some(Answer::Held { token: None }))
    );
    let known = asked(&mut *wire, &ask(false));
    assert_eq!(known[0], "EVALSHA");
    assert_eq!(
        &known[2..5],
        ["2", "foo/lock.IPC-Mutex-rpm", "{foo/lock.IPC-Mutex-rpm}:queue"]
    );
    assert_eq!(
        known[5],
        r#"ipc-mutex:x abc-x1 - {"host":"here","pid":7,"thread":0,"label":"näme","since":5}"#
    );
    wire.feed(b"-NOSCRIPT no\r\n");
    assert_eq!(answer(&mut *wire, Question::Ask), Ok(Some(Answer::Unclear)));
    assert_eq!(asked(&mut *wire, &ask(false))[0], "EVAL");
}

#[test]
fn a_token_comes_from_the_whole_script() {
    let mut wire = wire("rpm+redis://h/foo");
    assert_eq!(asked(&mut *wire, &ask(true)).len(), 3 + 7 + 7);
    wire.feed(b"*2\r\n$1\r\n7\r\n*2\r\n$4\r\nheld\r\n$2\r\n99\r\n:0\r\n:0\r\n");
    assert_eq!(
        answer(&mut *wire, Question::Ask),
        Ok(Some(Answer::Held { token: Some(99) }))
    );
    assert_eq!(answer(&mut *wire, Question::Ask), Ok(Some(Answer::Busy)));
    assert_eq!(answer(&mut *wire, Question::Release), Ok(Some(Answer::Awaited)));
    assert_eq!(wire.news(true), Ok(None));
}

#[test]
fn who_waits_hears_of_the_grant_between_and_after_answers() {
    let mut wire = wire("rpm+redis://h/foo");
    let mut out = Vec::new();
    wire.ask(&ask(false), true, &mut out);
    assert_eq!(words(&out)[3 + 7 + 2], "join");
    wire.feed(b"*2\r\n$7\r\n5000000\r\n*4\r\n$6\r\nqueued\r\n:1\r\n:0\r\n:9999\r\n");
    assert_eq!(answer(&mut *wire, Question::Ask), Ok(Some(Answer::Queued)));
    let granted = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$16\r\nabc-x1 - 5000000\r\n";
    wire.feed(granted);
    wire.feed(b":1\r\n");
    assert_eq!(wire.news(false), Ok(None));
    assert_eq!(answer(&mut *wire, Question::HandOver), Ok(Some(Answer::Freed)));
    let owner = Owner("abc-x1".into());
    let news = Ok(Some(News::Granted {
        owner: owner.clone(),
        token: None,
    }));
    assert_eq!(wire.news(true), news);
    for (at, byte) in granted.iter().enumerate() {
        assert_eq!(wire.news(true), Ok(None), "{at}");
        wire.feed(&[*byte]);
    }
    assert_eq!(wire.news(true), news);
    wire.feed(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$15\r\nabc-x1 after 60\r\n");
    let changed = Ok(Some(News::Changed { owner }));
    assert_eq!(wire.news(true), changed);
    wire.feed(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$19\r\nabc-x1 first 0 9999\r\n");
    assert_eq!(wire.news(true), changed);
    wire.feed(b":1\r\n");
    assert_eq!(wire.news(true), Err(Garbled), "nobody asked");
}

#[test]
fn who_waits_behind_a_process_of_1_1_2_waits_elsewhere() {
    let mut wire = wire("rpm+redis://h/foo");
    wire.feed(b"*2\r\n$1\r\n5\r\n*4\r\n$6\r\nqueued\r\n:1\r\n:1\r\n:9999\r\n");
    assert_eq!(answer(&mut *wire, Question::Ask), Ok(Some(Answer::Unclear)));
}

#[test]
fn a_release_that_does_nothing_is_followed_by_one_that_hands_over() {
    let mut wire = wire("rpm+redis://h/foo");
    let mut out = Vec::new();
    wire.hand_over(&ask(false), &mut out);
    assert_eq!((words(&out).len(), &words(&out)[0][..]), (3 + 7 + 1, "EVALSHA"));
    wire.feed(b":0\r\n:0\r\n");
    assert_eq!(answer(&mut *wire, Question::Release), Ok(Some(Answer::Awaited)));
    assert_eq!(answer(&mut *wire, Question::HandOver), Ok(Some(Answer::Unclear)));
}

#[test]
fn a_hand_over_does_not_tell_that_the_server_has_the_script_of_the_plain_release() {
    let mut wire = wire("rpm+redis://h/foo");
    wire.feed(b":1\r\n");
    assert_eq!(answer(&mut *wire, Question::HandOver), Ok(Some(Answer::Freed)));
    let mut out = Vec::new();
    wire.release(&ask(false), &mut out);
    assert_eq!(words(&out)[0], "EVAL");
}

#[test]
fn what_was_read_is_not_kept() {
    let Target::Remote(remote) = url::parse("rpm+redis://h/foo").unwrap().target else {
        panic!()
    };
    let mut wire = Express::new(&remote.server, &Arc::new(Identity::of_this_process("here".into())));
    for _ in 0..1000 {
        wire.feed(b":1\r\n");
        assert_eq!(answer(&mut wire, Question::Release), Ok(Some(Answer::Freed)));
    }
    assert!(wire.came.len() < 10);
}

#[test]
fn there_is_none_where_the_connection_is_encrypted() {
    let Target::Remote(remote) = url::parse("rpm+redis://h/foo?tls=true").unwrap().target else {
        panic!()
    };
    assert!(express(&remote.server, &Arc::new(Identity::of_this_process("here".into()))).is_none());
}
