//! Consul's transactions (`PUT /v1/txn`): several operations on keys, all or none, at one index of the server's log.
//! <https://developer.hashicorp.com/consul/api-docs/txn>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// The most operations that one transaction may have.
pub const MOST: usize = 64;

/// One operation. A failed check undoes the whole transaction.
#[derive(Debug, Clone)]
pub enum Op {
    /// The key exists and was last written at this index.
    CheckIndex(String, u64),
    /// The key is locked by this session.
    CheckSession(String, String),
    CheckAbsent(String),
    /// Locks the key with the session; fails if another session has it, or during the key's lock delay. If the
    /// session has it already, this only writes the key anew.
    Lock(String, String, Vec<u8>),
    /// Frees the key from the session and writes it.
    Unlock(String, String, Vec<u8>),
    Delete(String),
    /// Deletes the key if it was last written at this index, or does not exist.
    DeleteAt(String, u64),
    /// All keys that begin so, whoever has them locked.
    DeleteTree(String),
    /// All keys below this prefix, as they are after the operations before.
    Tree(String),
}

impl Op {
    fn to_json(&self) -> Value {
        let kv = match self {
            Op::CheckIndex(key, index) => json!({ "Verb": "check-index", "Key": key, "Index": index }),
            Op::CheckSession(key, session) => json!({ "Verb": "check-session", "Key": key, "Session": session }),
            Op::CheckAbsent(key) => json!({ "Verb": "check-not-exists", "Key": key }),
            Op::Lock(key, session, value) => {
                json!({ "Verb": "lock", "Key": key, "Session": session, "Value": STANDARD.encode(value) })
            }
            Op::Unlock(key, session, value) => {
                json!({ "Verb": "unlock", "Key": key, "Session": session, "Value": STANDARD.encode(value) })
            }
            Op::Delete(key) => json!({ "Verb": "delete", "Key": key }),
            Op::DeleteAt(key, index) => json!({ "Verb": "delete-cas", "Key": key, "Index": index }),
            Op::DeleteTree(key) => json!({ "Verb": "delete-tree", "Key": key }),
            Op::Tree(key) => json!({ "Verb": "get-tree", "Key": key }),
        };
        json!({ "KV": kv })
    }
}

pub fn to_body(ops: &[Op]) -> Vec<u8> {
    Value::Array(ops.iter().map(Op::to_json).collect())
        .to_string()
        .into_bytes()
}

/// A key as the server tells it, from a transaction or a read.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pair {
    pub key: String,
    #[serde(default)]
    value: Option<String>,
    /// Absent or empty: nobody has it locked.
    #[serde(default)]
    session: Option<String>,
    pub create_index: u64,
    pub modify_index: u64,
}

impl Pair {
    pub fn value(&self) -> Vec<u8> {
        self.value
            .as_deref()
            .and_then(|text| STANDARD.decode(text).ok())
            .unwrap_or_default()
    }

    pub fn session(&self) -> Option<&str> {
        self.session.as_deref().filter(|session| !session.is_empty())
    }
}

/// Why one operation failed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Objection {
    pub op_index: usize,
    pub what: String,
}

/// What became of a transaction.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// All of it was done; the keys that were written (without their values) and read, in the order of the operations.
    Done(Vec<Pair>),
    /// None of it was done.
    Refused(Vec<Objection>),
}

impl Outcome {
    pub fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Reply {
            results: Option<Vec<Entry>>,
            errors: Option<Vec<Objection>>,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "KV")]
            kv: Option<Pair>,
        }
        let reply: Reply = serde_json::from_slice(body).ok()?;
        Some(match reply.errors {
            Some(errors) if !errors.is_empty() => Outcome::Refused(errors),
            _ => Outcome::Done(
                reply
                    .results
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|entry| entry.kv)
                    .collect(),
            ),
        })
    }
}

/// The index at which a transaction was written: every key it wrote has it, and nothing on the server is newer.
pub fn written_at(pairs: &[Pair]) -> u64 {
    pairs.iter().map(|pair| pair.modify_index).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_done_or_refused() {
        let done = br#"{"Results":[{"KV":{"LockIndex":1,"Key":"k","Flags":0,"Value":"YQ==","Session":"s","CreateIndex":26,"ModifyIndex":27}}],"Errors":null}"#;
        let Some(Outcome::Done(pairs)) = Outcome::parse(done) else {
            panic!("done was expected")
        };
        assert_eq!((pairs[0].value(), pairs[0].session()), (b"a".to_vec(), Some("s")));
        assert_eq!(written_at(&pairs), 27);
        let refused = br#"{"Results":null,"Errors":[{"OpIndex":1,"What":"no"}],"Index":0}"#;
        assert!(matches!(Outcome::parse(refused), Some(Outcome::Refused(why)) if why[0].op_index == 1));
        assert!(Outcome::parse(b"<html>").is_none());
    }
}
