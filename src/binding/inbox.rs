//! How news from other threads reaches an environment: a list, and one wake-up for as many entries as have come together.

use super::event::Event;
use super::raw::Js;
use napi::sys;
use parking_lot::{Mutex, RwLock};
use std::mem;
use std::os::raw::c_void;
use std::ptr;
use std::sync::Arc;

/// The events that one environment has not heard yet.
pub struct Inbox {
    state: Mutex<State>,
    /// The way to wake the environment; gone once it ends. Apart from the state, which the environment looks at as soon as it is
    /// awake: it would run against the lock of the one who is still waking it, and go to sleep again.
    waker: RwLock<Option<Waker>>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// Whether the environment has been woken and has not looked yet.
    woken: bool,
    /// Whether there is nobody any more who would look.
    ended: bool,
}

struct Waker(sys::napi_threadsafe_function);

// SAFETY: Node-API allows calling a thread-safe function from any thread while it exists; `Inbox::end` takes it away,
// under the lock, before it ceases to exist.
unsafe impl Send for Waker {}
// SAFETY: as above.
unsafe impl Sync for Waker {}

impl Inbox {
    /// An inbox whose events go to the JavaScript function `listener`. It does not keep the process alive.
    ///
    /// # Safety
    /// `js` and `listener` are those of the running call.
    pub unsafe fn new(js: Js, listener: sys::napi_value) -> Result<Arc<Self>, napi::Status> {
        let inbox = Arc::new(Self {
            state: Mutex::default(),
            waker: RwLock::new(None),
        });
        let mut function = ptr::null_mut();
        // The thread-safe function owns one count of the inbox, given back by `finalize`.
        let context = Arc::into_raw(inbox.clone()).cast_mut().cast::<c_void>();
        // SAFETY: handles of the running call; the context lives until `finalize`.
        unsafe {
            let status = sys::napi_create_threadsafe_function(
                js.env,
                listener,
                ptr::null_mut(),
                js.text("ipc-mutex"),
                0,
                1,
                context,
                Some(finalize),
                context,
                Some(deliver),
                &mut function,
            );
            if status != sys::Status::napi_ok {
                drop(Arc::from_raw(context.cast::<Self>()));
                return Err(status.into());
            }
            sys::napi_unref_threadsafe_function(js.env, function);
        }
        *inbox.waker.write() = Some(Waker(function));
        Ok(inbox)
    }

    /// Adds an event and wakes the environment if it is not awake already. Events for an environment that has ended are
    /// dropped.
    pub fn push(&self, event: Event) {
        {
            let mut state = self.state.lock();
            if state.ended {
                return;
            }
            state.events.push(event);
            if mem::replace(&mut state.woken, true) {
                return;
            }
        }
        if let Some(waker) = &*self.waker.read() {
            // SAFETY: under the lock, see `Waker`. The queue is unbounded, so this does not block.
            unsafe {
                sys::napi_call_threadsafe_function(
                    waker.0,
                    ptr::null_mut(),
                    sys::ThreadsafeFunctionCallMode::nonblocking,
                )
            };
        }
    }

    /// Whether waiting for events keeps the process alive.
    pub fn keep_alive(&self, js: Js, alive: bool) {
        if let Some(waker) = &*self.waker.read() {
            // SAFETY: on the environment's own thread, see `Waker`.
            unsafe {
                if alive {
                    sys::napi_ref_threadsafe_function(js.env, waker.0);
                } else {
                    sys::napi_unref_threadsafe_function(js.env, waker.0);
                }
            }
        }
    }

    /// Lets go of the listener, on the environment's own thread, before its end.
    pub fn release(&self) {
        let waker = self.waker.write().take();
        if let Some(Waker(function)) = waker {
            // SAFETY: nobody else can have it any more, and this thread, which owns it, lets go of it once.
            unsafe { sys::napi_release_threadsafe_function(function, sys::ThreadsafeFunctionReleaseMode::abort) };
        }
    }

    /// The environment ends: nothing is delivered any more.
    pub fn end(&self) {
        *self.waker.write() = None;
        let mut state = self.state.lock();
        state.ended = true;
        state.events.clear();
    }
}

unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the count that `Inbox::new` gave to the thread-safe function.
    let inbox = unsafe { Arc::from_raw(data.cast::<Inbox>()) };
    inbox.end();
}

/// Calls the listener for each event that has come, on the environment's thread.
unsafe extern "C" fn deliver(env: sys::napi_env, listener: sys::napi_value, context: *mut c_void, _data: *mut c_void) {
    if env.is_null() || listener.is_null() {
        return;
    }
    // SAFETY: the context is the inbox, alive until `finalize`.
    let inbox = unsafe { &*context.cast::<Inbox>() };
    let events = {
        let mut state = inbox.state.lock();
        state.woken = false;
        mem::take(&mut state.events)
    };
    let js = Js { env };
    let receiver = js.undefined();
    for event in events {
        // SAFETY: Node-API calls this on the environment's thread with a listener that is a function.
        unsafe {
            let mut scope = ptr::null_mut();
            sys::napi_open_handle_scope(env, &mut scope);
            let arguments = event.arguments(js);
            let status = sys::napi_call_function(
                env,
                receiver,
                listener,
                arguments.len(),
                arguments.as_ptr(),
                ptr::null_mut(),
            );
            if status == sys::Status::napi_pending_exception {
                // Thrown by a user's event listener: it is uncaught there as anywhere, and the next event is still told.
                let mut exception = ptr::null_mut();
                sys::napi_get_and_clear_last_exception(env, &mut exception);
                sys::napi_fatal_exception(env, exception);
            }
            sys::napi_close_handle_scope(env, scope);
        }
    }
}
