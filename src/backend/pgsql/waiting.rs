//! Waiting for a lock in the server's own queue, and leaving it.

use super::failure::Fault;
use super::group::{Group, Groups, withdrawn};
use super::main_session::{self, MainSession};
use super::request::{Phase, Place, Request};
use super::session::{self, Session};
use super::side::{Side, TAKEN_FOR_GRANTED};
use super::sql::{Call, Verb};
use crate::backend::{Refusal, Taken};
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

/// How often a group that found no free side session looks whether the lock is free.
const LOOK: Duration = Duration::from_millis(200);
/// The first pause before a cancel request is repeated: the server ignores one that comes before the statement.
const AGAIN: Duration = Duration::from_millis(20);

/// Waits until the server grants the lock to the group, and gives each of its members a share.
///
/// Those who are refused learn why: `Closed` if they were withdrawn, otherwise what the server said. Nothing of them is left
/// at the server then.
///
/// Who comes with a `slot` has not tried for the lock, see [`Side::slot_without_a_try`].
pub async fn wait(
    side: Rc<Side>,
    main: Rc<MainSession>,
    groups: Rc<Groups>,
    group: Rc<Group>,
    slot: Option<OwnedSemaphorePermit>,
) {
    let outcome = stand(&side, &main, &groups, &group, slot).await;
    let refusal = outcome.err().unwrap_or_else(withdrawn);
    groups.close(&group);
    for member in group.take() {
        member.stands_alone(Phase::Refused(refusal.clone()));
    }
}

async fn stand(
    side: &Rc<Side>,
    main: &Rc<MainSession>,
    groups: &Groups,
    group: &Rc<Group>,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<(), Refusal> {
    let tried = slot.is_none();
    let slot = match slot {
        Some(slot) => Some(slot),
        None => turn(side, main, group).await?,
    };
    let (Some(_slot), Some(first)) = (slot, group.first()) else {
        return Ok(());
    };
    let session = tokio::select! {
        biased;
        () = group.deserted() => return Err(withdrawn()),
        session = side.take(waiting(&first), group.key) => session?,
    };
    if session.server != main.trunk().await?.session.server {
        // Several servers behind one name, or one that was replaced this moment: their queues have nothing to do with
        // each other.
        session.close();
        let message = format!(
            "the server at {} is not the one that keeps the other locks",
            session.peer
        );
        return Err(Error::new(Kind::Connect, message).into());
    }
    if tried {
        session.contended.set(Some((group.key, TAKEN_FOR_GRANTED)));
    }
    group.pid.set(Some(session.ghost.pid));
    let outcome = stand_on(side, &session, groups, group).await;
    if outcome.is_err() && !session.is_open() {
        // Our side has given the session up; the server must not go on waiting, or be granted the lock, for nobody.
        let limit = session.login.options.connect_timeout;
        let _ = tokio::time::timeout(limit, main.bury()).await;
    }
    outcome
}

/// Waits in this process for the right to wait at the server, and looks now and then whether the lock is free. `None`: all
/// have got it like that.
async fn turn(side: &Side, main: &Rc<MainSession>, group: &Rc<Group>) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    if let Some(slot) = side.slot() {
        return Ok(Some(slot));
    }
    let mut slot = pin!(side.next_slot());
    loop {
        let slot = tokio::select! {
            biased;
            () = group.deserted() => return Err(withdrawn()),
            slot = &mut slot => slot,
            () = sleep(LOOK + jitter()) => None,
        };
        // Also with the right to wait: after all that time a connection may have become needless.
        let trunk = main.trunk().await?;
        while let Some(first) = group.first() {
            match trunk.attempt(&first).await.map_err(Error::from)? {
                Some(taken) => group.part(&first, Phase::Held(taken)),
                None => break,
            }
        }
        if group.first().is_none() {
            return Ok(None);
        }
        if slot.is_some() {
            return Ok(slot);
        }
    }
}

async fn stand_on(side: &Rc<Side>, session: &Rc<Session>, groups: &Groups, group: &Rc<Group>) -> Result<(), Refusal> {
    let Some(first) = group.first() else { return Ok(()) };
    let call = waiting(&first);
    let tick = (session.login.ttl() / 20).clamp(Duration::from_millis(20), Duration::from_secs(1));
    // The server counts the lease from our side's acknowledgement of its answer, which may have been long ago if this process
    // was stopped meanwhile. At this moment the answer had not arrived, because it would have been seen a tick later.
    let mut not_yet = clock::now();
    session.rename_for(group.key, &first.ask).await;
    let mut statement = pin!(session.call(call, group.key));
    let answer = loop {
        let now = clock::now();
        tokio::select! {
            biased;
            answer = &mut statement => break answer,
            () = group.deserted() => {
                groups.close(group);
                leave(side, session, statement).await;
                return Err(withdrawn());
            }
            () = sleep(tick) => not_yet = now,
        }
    };
    match answer {
        Ok(answer) if session.is_open() => {
            // The wait may have been sent longer ago than a lease lasts: the session lives since its answer, not since the question.
            session.heard.set(session.heard.get().max(not_yet));
            groups.close(group);
            group.sweep();
            share(side, session, group.take(), answer, not_yet);
            Ok(())
        }
        Ok(_) => {
            let message = format!("the connection to {} was lost", session.peer);
            Err(Error::new(Kind::Connect, message).into())
        }
        Err(fault) => {
            side.clear(session).await;
            Err(Error::from(fault).into())
        }
    }
}

fn waiting(request: &Request) -> Call {
    Call {
        fenced: request.ask.fenced,
        ..session::call(Verb::Wait, request.ask.mode, request.key)
    }
}

/// Gives what was granted to one of the members, and a further share to each of the others.
fn share(
    side: &Rc<Side>,
    session: &Rc<Session>,
    mut members: Vec<Rc<Request>>,
    answer: session::Answer,
    leased_at: Moment,
) {
    session.users.set(u32::try_from(members.len()).unwrap_or(u32::MAX));
    // For whom the group went to the server may have left, and a token is not there for everybody.
    match members
        .iter()
        .position(|member| answer.token.is_some() || !member.ask.fenced)
    {
        Some(lucky) => {
            let member = members.remove(lucky);
            let taken = main_session::hold(&member, session, Place::Side, answer.token, leased_at);
            member.stands_alone(Phase::Held(taken));
        }
        None => session.in_doubt.set(true),
    }
    for member in members {
        let (side, session) = (side.clone(), session.clone());
        tokio::task::spawn_local(async move {
            let phase = match take_share(&session, &member).await {
                Ok(taken) => Phase::Held(taken),
                Err(fault) => {
                    session.in_doubt.set(true);
                    side.leave(&session).await;
                    Phase::Refused(Error::from(fault).into())
                }
            };
            member.stands_alone(phase);
        });
    }
}

/// The session has the lock, so this is answered at once.
async fn take_share(session: &Rc<Session>, member: &Rc<Request>) -> Result<Taken, Fault> {
    let leased_at = clock::now();
    let answer = session.call(waiting(member), member.key).await?;
    if !session.is_open() {
        let message = format!("the connection to {} was lost", session.peer);
        return Err(Fault::Gone(Error::new(Kind::Connect, message)));
    }
    Ok(main_session::hold(
        member,
        session,
        Place::Side,
        answer.token,
        leased_at,
    ))
}

/// Cancels the statement that waits, exactly: afterwards the server has no trace of it and no cancel request is on its
/// way that could hit what the session does next. Where that cannot be made sure, the session is given up.
async fn leave<F>(side: &Rc<Side>, session: &Rc<Session>, mut statement: Pin<&mut F>)
where
    F: Future<Output = Result<session::Answer, Fault>>,
{
    let limit = session.login.options.connect_timeout;
    let deadline = Instant::now() + limit;
    let mut pause = AGAIN;
    loop {
        if let Err(error) = session.cancel(limit).await {
            return session.cut(error);
        }
        tokio::select! {
            biased;
            _ = &mut statement => return side.clear(session).await,
            () = sleep(pause) => pause *= 2,
            () = sleep_until(deadline) => {
                let message = format!("PostgreSQL at {} did not end a cancelled statement", session.peer);
                return session.cut(Error::new(Kind::Connect, message));
            }
        }
    }
}

/// Up to [`LOOK`] more, so that processes do not look in step.
fn jitter() -> Duration {
    let share = getrandom::u32().unwrap_or(0);
    LOOK.mul_f64(f64::from(share) / f64::from(u32::MAX))
}
