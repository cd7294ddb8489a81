// Timers that expire when the test says so, so that a walk goes the same way again. To be imported before the package, which takes its timers at load.
import timers from "node:timers"

const { setTimeout, clearTimeout } = timers
const pending = new Set()

timers.setTimeout = (call, milliseconds, ...args) => {
    const timer = { call, args }
    pending.add(timer)
    return timer
}
timers.clearTimeout = (timer) => { pending.delete(timer) }

/** The timers that have not expired, in the order in which they were set. */
export const running = () => [ ...pending ]

/** Lets one expire. */
export function expire (timer) {
    if (pending.delete(timer))
        timer.call(...timer.args)
}

/** Once the package is loaded, others have the real ones again. */
export function restore () {
    Object.assign(timers, { setTimeout, clearTimeout })
}
