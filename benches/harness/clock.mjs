// One clock for all processes and threads of the machine, and the shortest pauses.

/** Nanoseconds of the system's monotonic clock, the same in every process. Exact up to a hundred days of uptime. */
export function now () {
    const [ seconds, nanoseconds ] = process.hrtime()
    return seconds * 1e9 + nanoseconds
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
