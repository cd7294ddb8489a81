//! A thin layer over Node-API: arguments in, values out, no panic across the border.

use crate::error::Error;
use napi::{Status, sys};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// A function of the addon: its name and its entry point.
pub type Function = (
    &'static str,
    unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value,
);

/// A JavaScript value of the running call. `null()` stands for `undefined` as a return value.
pub type Value = sys::napi_value;

/// The environment of the running call. Only valid until that call returns.
#[derive(Clone, Copy)]
pub struct Js {
    pub env: sys::napi_env,
}

/// Declares the entry point of a function with a fixed number of arguments.
macro_rules! entry {
    ($(#[$doc:meta])* $name:ident($count:literal) |$js:ident, $args:ident| $body:expr) => {
        $(#[$doc])*
        pub unsafe extern "C" fn $name(env: napi::sys::napi_env, info: napi::sys::napi_callback_info) -> napi::sys::napi_value {
            let body = |$js: $crate::binding::raw::Js, $args: [$crate::binding::raw::Value; $count]| $body;
            // SAFETY: Node-API calls this with the environment and the information of the running call.
            unsafe { $crate::binding::raw::guard::<$count>(env, info, body) }
        }
    };
}
pub(super) use entry;

/// Runs the body of a function; a panic becomes a JavaScript error, because it must not take the process down.
///
/// # Safety
/// `env` and `info` are those of the running call.
pub unsafe fn guard<const COUNT: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    body: impl FnOnce(Js, [Value; COUNT]) -> Value,
) -> Value {
    let js = Js { env };
    let mut arguments = [ptr::null_mut(); COUNT];
    let mut count = COUNT;
    // SAFETY: the array has room for `count` values; Node-API fills up missing ones with undefined.
    unsafe {
        sys::napi_get_cb_info(
            env,
            info,
            &mut count,
            arguments.as_mut_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
        );
    }
    match catch_unwind(AssertUnwindSafe(|| body(js, arguments))) {
        Ok(value) => value,
        Err(_) => {
            let message = c"ipc-mutex: internal error, please report it";
            // SAFETY: both strings end with NUL.
            unsafe { sys::napi_throw_error(env, c"ERR_INTERNAL".as_ptr(), message.as_ptr()) };
            ptr::null_mut()
        }
    }
}

/// Puts a function on an object.
///
/// # Safety
/// `env` and `object` are those of the running call.
pub unsafe fn define(
    env: sys::napi_env,
    object: Value,
    name: &str,
    callback: unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> Value,
) -> napi::Result<()> {
    let mut function = ptr::null_mut();
    let label = name.as_ptr().cast();
    let length = name.len() as isize;
    // SAFETY: name and length describe one string; the handles are valid for the running call.
    let status =
        unsafe { sys::napi_create_function(env, label, length, Some(callback), ptr::null_mut(), &mut function) };
    if status != sys::Status::napi_ok {
        return Err(napi::Error::new(Status::from(status), format!("cannot create {name}")));
    }
    Js { env }.set(object, name, function);
    Ok(())
}

// SAFETY of the blocks below: `self.env` is the environment of the running call, every handle comes from it, and every
// pointer is to a local of the right type. A value of another type leaves the given default in place.
impl Js {
    pub fn u32(self, value: Value) -> u32 {
        let mut number = 0;
        unsafe { sys::napi_get_value_uint32(self.env, value, &mut number) };
        number
    }

    /// A whole number below 2^53; anything else gives 0.
    pub fn u53(self, value: Value) -> u64 {
        let mut number = 0.0;
        unsafe { sys::napi_get_value_double(self.env, value, &mut number) };
        // The conversion saturates and turns NaN into 0.
        number as u64
    }

    pub fn bool(self, value: Value) -> bool {
        let mut flag = false;
        unsafe { sys::napi_get_value_bool(self.env, value, &mut flag) };
        flag
    }

    /// A string, lone surrogates replaced; `None` for anything else.
    pub fn string(self, value: Value) -> Option<String> {
        let mut length = 0;
        unsafe {
            if sys::napi_get_value_string_utf8(self.env, value, ptr::null_mut(), 0, &mut length) != sys::Status::napi_ok
            {
                return None;
            }
            let mut bytes = vec![0_u8; length + 1];
            sys::napi_get_value_string_utf8(self.env, value, bytes.as_mut_ptr().cast(), bytes.len(), &mut length);
            bytes.truncate(length);
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
    }

    pub fn number(self, number: f64) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_create_double(self.env, number, &mut value) };
        value
    }

    /// The quickest kind of number.
    pub fn int(self, number: i32) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_create_int32(self.env, number, &mut value) };
        value
    }

    pub fn bigint(self, number: u64) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_create_bigint_uint64(self.env, number, &mut value) };
        value
    }

    pub fn flag(self, flag: bool) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_get_boolean(self.env, flag, &mut value) };
        value
    }

    pub fn text(self, text: &str) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_create_string_utf8(self.env, text.as_ptr().cast(), text.len() as isize, &mut value) };
        value
    }

    /// A string with one character for each byte.
    pub fn latin1(self, bytes: &[u8]) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_create_string_latin1(self.env, bytes.as_ptr().cast(), bytes.len() as isize, &mut value) };
        value
    }

    /// The memory of a typed array; empty for anything else.
    ///
    /// # Safety
    /// The array's elements are of type `T`, and no other slice of the same memory is in use.
    pub unsafe fn slice<'a, T>(self, value: Value) -> &'a mut [T] {
        let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
        let (mut buffer, mut offset) = (ptr::null_mut(), 0);
        unsafe {
            let status = sys::napi_get_typedarray_info(
                self.env,
                value,
                &mut kind,
                &mut length,
                &mut data,
                &mut buffer,
                &mut offset,
            );
            if status != sys::Status::napi_ok || data.is_null() {
                return &mut [];
            }
            std::slice::from_raw_parts_mut(data.cast::<T>(), length)
        }
    }

    pub fn undefined(self) -> Value {
        let mut value = ptr::null_mut();
        unsafe { sys::napi_get_undefined(self.env, &mut value) };
        value
    }

    pub fn object(self, members: &[(&str, Value)]) -> Value {
        let mut object = ptr::null_mut();
        unsafe { sys::napi_create_object(self.env, &mut object) };
        for (name, value) in members {
            self.set(object, name, *value);
        }
        object
    }

    pub fn array(self, items: impl IntoIterator<Item = Value>) -> Value {
        let mut array = ptr::null_mut();
        unsafe { sys::napi_create_array(self.env, &mut array) };
        for (index, item) in items.into_iter().enumerate() {
            unsafe { sys::napi_set_element(self.env, array, index as u32, item) };
        }
        array
    }

    pub fn set(self, object: Value, name: &str, value: Value) {
        let key = self.text(name);
        unsafe { sys::napi_set_property(self.env, object, key, value) };
    }

    /// What JavaScript makes a `MutexError` of.
    pub fn error(self, error: &Error) -> Value {
        let cause = error
            .cause
            .as_deref()
            .map_or_else(|| self.undefined(), |cause| self.text(cause));
        self.object(&[
            ("code", self.text(error.kind.code())),
            ("message", self.text(&error.message)),
            ("cause", cause),
        ])
    }
}
