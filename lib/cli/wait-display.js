"use strict"

const { inTheWay, span } = require("./words.js")

/** A wait that is over sooner needs no words, in milliseconds. */
const PATIENCE = 300
/** How often the words are brought up to date, in milliseconds. */
const PERIOD = 1000

/**
 * Shows on a terminal for whom one waits, until it is stopped; elsewhere nothing.
 * @param {import("../../index.js").Mutex} mutex
 * @param {import("./say.js").Speaker} speaker
 * @returns {() => void} stops it and takes the words away
 */
function showWait (mutex, speaker) {
    if (!speaker.isTerminal)
        return () => {}
    const begun = performance.now()
    let timer
    const show = async () => {
        // A server that does not answer now is the lock's own concern.
        const who = await mutex.query().then(inTheWay, () => "its server does not answer")
        if (timer === undefined)
            return
        speaker.status(`waiting ${span(performance.now() - begun)} for lock "${mutex.id}", ${who}`)
        timer = setTimeout(show, PERIOD)
    }
    timer = setTimeout(show, PATIENCE)
    return () => {
        clearTimeout(timer)
        timer = undefined
        speaker.clear()
    }
}

module.exports = { showWait }
