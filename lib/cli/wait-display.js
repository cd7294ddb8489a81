"use strict"

const { inTheWay, span } = require("./words.js")

/** A wait that is over sooner needs no words, in milliseconds. */
const PATIENCE = 300
/** How often a line on a terminal is brought up to date, in milliseconds. */
const PERIOD = 1000
/** When a log is told that a program waits, and how often again, in milliseconds. */
const LOG = Object.freeze({ first: 5000, again: 600_000 })

/**
 * Shows for whom one waits, until it is stopped: on a terminal a line that changes, elsewhere a line now and then.
 * @param {import("../../index.js").Mutex} mutex
 * @param {import("./say.js").Speaker} speaker
 * @param {{ verbose?: boolean, first?: number, again?: number }} [options]
 * @returns {() => void} stops it and takes the words away
 */
function showWait (mutex, speaker, { verbose = false, first = verbose ? PATIENCE : LOG.first, again = LOG.again } = {}) {
    const begun = performance.now()
    let timer
    const show = async () => {
        // A server that does not answer now is the lock's own concern.
        const who = await mutex.query().then(inTheWay, () => "its server does not answer")
        if (timer === undefined)
            return
        const text = `waiting ${span(performance.now() - begun)} for lock "${mutex.id}", ${who}`
        if (speaker.isTerminal)
            speaker.status(text)
        else
            speaker.say(text)
        timer = setTimeout(show, speaker.isTerminal ? PERIOD : again)
    }
    timer = setTimeout(show, speaker.isTerminal ? PATIENCE : first)
    return () => {
        clearTimeout(timer)
        timer = undefined
        speaker.clear()
    }
}

module.exports = { showWait }
