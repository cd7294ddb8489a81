//! The clocks of the machine, read in one place.

use crate::core::time::Moment;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, on a clock that never jumps and counts the time a machine is suspended (`CLOCK_BOOTTIME` on Linux; the system's
/// monotonic clock elsewhere, which on macOS and Windows counts suspension too).
pub fn now() -> Moment {
    #[cfg(test)]
    if let Some(now) = STOPPED.get() {
        return now;
    }
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local of the right type, which the call fills in.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
        assert_eq!(status, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
        Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        Moment(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
thread_local! {
    static STOPPED: std::cell::Cell<Option<Moment>> = const { std::cell::Cell::new(None) };
}

/// From here on it is `now` on this thread, until it is something else.
#[cfg(test)]
pub fn stop_at(now: Moment) {
    STOPPED.set(Some(now));
}

/// Milliseconds since 1970 on the wall clock, which jumps: for people to read and to seed fencing tokens, never for
/// deadlines.
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// [`wall_ms`], some milliseconds off and several times cheaper where the system has such a clock.
pub fn coarse_wall_ms() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local of the right type, which the call fills in.
        if unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut time) } == 0 {
            return time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000;
        }
    }
    wall_ms()
}
