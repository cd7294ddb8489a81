"use strict"

/**
 * The pauses between tries (milliseconds), as the package retry makes them of its options.
 * @param {number | number[] | object} [given] how many tries after the first, the pauses themselves, or
 *   `retries` (10), `factor` (2), `minTimeout` (1000), `maxTimeout` (no limit), `randomize` (false), `forever`, `maxRetryTime`
 */
function* delays (given = 0) {
    if (Array.isArray(given))
        return yield* given
    const options = typeof given === "number" ? { retries: given } : given
    const { retries = 10, factor = 2, minTimeout = 1000, maxTimeout = Infinity, randomize = false, forever = false } = options
    if (minTimeout > maxTimeout)
        throw new Error("minTimeout is greater than maxTimeout")
    for (let tried = 0; forever || tried < retries; tried++) {
        const pause = (randomize ? Math.random() + 1 : 1) * Math.max(minTimeout, 1) * factor ** tried
        yield Math.min(Math.round(pause), maxTimeout)
    }
}

/** The error to tell after several tries: the most frequent one, and of those the latest. */
function mainError (errors) {
    const counts = new Map()
    let main
    for (const error of errors) {
        const count = (counts.get(error.message) ?? 0) + 1
        counts.set(error.message, count)
        if (main === undefined || count >= counts.get(main.message))
            main = error
    }
    return main
}

module.exports = { delays, mainError }
