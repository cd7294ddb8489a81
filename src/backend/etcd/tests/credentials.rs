//! Users whose passwords change.

use super::*;
use crate::options::Provider;
use crate::secret::Secret;
use etcd_client::{Permission, PermissionType};
use std::sync::Mutex;
use tokio::sync::oneshot;

/// Who may do all, as etcd wants it; and `app`, who may use our locks.
async fn enable_auth(raw: &mut Client, password: &str) {
    for (user, role) in [("root", "root"), ("app", "locks")] {
        raw.user_add(user, password, None).await.unwrap();
        raw.role_add(role).await.unwrap();
        raw.user_grant_role(user, role).await.unwrap();
    }
    let locks = Permission::new(PermissionType::Readwrite, keys::PROBE).with_prefix();
    raw.role_grant_permission("locks", locks).await.unwrap();
    raw.auth_enable().await.unwrap();
}

#[test]
fn a_password_that_has_changed_is_asked_for_anew() {
    run(async {
        let etcd = start();
        let address = [format!("127.0.0.1:{}", etcd.port)];
        // It is there as soon as it answers.
        process(&etcd.server(TTL), "probe").await;
        let mut raw = Client::connect(&address, None).await.unwrap();
        enable_auth(&mut raw, "old").await;
        let password = Arc::new(Mutex::new("old".to_owned()));
        let asked = password.clone();
        let provider = Provider::new((0, 0), move || {
            let (sender, receiver) = oneshot::channel();
            let password = Secret::new(asked.lock().unwrap().clone());
            let _ = sender.send(Ok((Some("app".into()), Some(password))));
            receiver
        });
        let mut server = etcd.server(TTL);
        server.credentials.provider = Some(provider);
        let a = process(&server, "a").await;
        let held = a.ask("x", Mode::Exclusive, Attempt::Wait);
        a.take(&held).await;
        let options = etcd_client::ConnectOptions::new().with_user("root", "old");
        let mut root = Client::connect(&address, Some(options)).await.unwrap();
        for new in ["new", "newer"] {
            root.user_change_password("app", new).await.unwrap();
            *password.lock().unwrap() = new.to_owned();
            a.backend.renew(vec![held.clone()]).await.unwrap();
            let other = a.ask("y", Mode::Shared, Attempt::Wait);
            a.take(&other).await;
            a.backend.release(other).await.unwrap();
        }
        assert_eq!(a.backend.release(held).await.unwrap(), Released::Freed);
        a.backend.close().await;
    });
}
