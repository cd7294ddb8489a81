//! User and password: those of the URL, or what the program's own function says for each new connection.

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use parking_lot::Mutex;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokio::sync::oneshot;

/// User and password, percent-decoded. Where there is a [`Provider`], they are only what stands in for what it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub provider: Option<Provider>,
    /// Redis: whether the URL names a user where none is read, for the message of a refusal.
    pub has_ignored_user: bool,
}

/// What a provider says: user and password, or the message of the error that it threw.
pub type Given = Result<(Option<String>, Option<Secret>), String>;

/// Asks a function of the program. Equal if it is the same function of the same thread.
#[derive(Clone)]
pub struct Provider(Arc<Inner>);

struct Inner {
    /// The thread, and the thread's number for the function.
    name: (u32, u32),
    ask: Box<dyn Fn() -> oneshot::Receiver<Given> + Send + Sync>,
    /// The latest password, to be masked in what servers say.
    last: Mutex<Option<Secret>>,
}

impl Provider {
    /// `ask` puts the question; the answer comes by what it returns.
    pub fn new(name: (u32, u32), ask: impl Fn() -> oneshot::Receiver<Given> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            name,
            ask: Box::new(ask),
            last: Mutex::default(),
        }))
    }
}

impl Credentials {
    /// What to use for a connection that is about to be made. Bounded by the caller.
    ///
    /// # Errors
    /// `Auth`: the program's function threw, or its thread has ended.
    pub async fn current(&self) -> Result<Credentials> {
        let Some(provider) = &self.provider else {
            return Ok(self.clone());
        };
        let refused = |why: &str| Error::new(Kind::Auth, format!("option credentials gave none: {why}"));
        match (provider.0.ask)().await {
            Ok(Ok((user, password))) => {
                provider.0.last.lock().clone_from(&password);
                Ok(Credentials {
                    user: user.or_else(|| self.user.clone()),
                    password: password.or_else(|| self.password.clone()),
                    ..Credentials::default()
                })
            }
            Ok(Err(message)) => Err(refused("the function failed").because(message)),
            Err(_) => Err(refused("its thread has ended")),
        }
    }

    /// `text` with the password masked, for a server's own words.
    pub fn mask(&self, text: &str) -> String {
        let last = self
            .provider
            .as_ref()
            .and_then(|provider| provider.0.last.lock().clone());
        [&self.password, &last]
            .into_iter()
            .flatten()
            .fold(text.to_owned(), |text, secret| secret.mask(&text))
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Provider {}

impl Hash for Provider {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Provider({:?})", self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(answer: Option<Given>) -> Credentials {
        let provider = Provider::new((1, 2), move || {
            let (sender, receiver) = oneshot::channel();
            if let Some(answer) = answer.clone() {
                let _ = sender.send(answer);
            }
            receiver
        });
        Credentials {
            user: Some("app".into()),
            password: Some(Secret::new("old")),
            provider: Some(provider),
            ..Credentials::default()
        }
    }

    #[tokio::test]
    async fn what_the_function_says_comes_before_what_the_url_says() {
        let credentials = given(Some(Ok((None, Some(Secret::new("hunter2"))))));
        let current = credentials.current().await.unwrap();
        assert_eq!(current.user.as_deref(), Some("app"));
        assert_eq!(current.password.unwrap().reveal(), "hunter2");
        assert_eq!(credentials.mask("old hunter2"), "*** ***");
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_function_that_fails_is_told() {
        let error = given(Some(Err("no token".into()))).current().await.unwrap_err();
        assert_eq!((error.kind, error.cause.as_deref()), (Kind::Auth, Some("no token")));
        assert_eq!(given(None).current().await.unwrap_err().kind, Kind::Auth);
    }

    #[tokio::test]
    async fn without_a_function_the_url_says_it() {
        let fixed = Credentials {
            user: Some("app".into()),
            ..Credentials::default()
        };
        assert_eq!(fixed.current().await.unwrap(), fixed);
    }
}
