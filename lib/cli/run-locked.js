"use strict"

const path = require("node:path")
const Mutex = require("../../index.js")
const { EXIT, Exit, usage } = require("./exit.js")
const { Signals } = require("./signals.js")
const { runCommand } = require("./command.js")
const { showWait } = require("./wait-display.js")
const { inTheWay, span } = require("./words.js")

/** How long a command that runs without its lock may take to end, in milliseconds. */
const GRACE = 10_000

/** How long a server may still take after a signal, in milliseconds until it is left to free the lock itself. */
const LAST = 1000

/**
 * @typedef {object} Job
 * @property {string} url of the mutex
 * @property {string[]} command the program and its arguments
 * @property {boolean} [shared]
 * @property {boolean} [nonblock] whether a lock that is taken is a conflict at once
 * @property {number} [timeout] after how many milliseconds it is one
 * @property {number} [conflict] the exit code then
 * @property {number} [grace] milliseconds
 * @property {boolean} [close] whether the lock is given back when the command ends, whatever it has started
 * @property {boolean} [verbose]
 */

/**
 * Runs a command while a lock is held.
 * @param {Job} job
 * @param {import("./say.js").Speaker} speaker
 * @returns {Promise<Exit>}
 */
async function runLocked (job, speaker) {
    const { url, command, shared = false, grace = GRACE, close = false } = job
    const note = job.verbose ? (text) => speaker.say(text) : () => {}
    const signals = new Signals()
    const mutex = open(url, command[0])
    await signals.orEnd(mutex.open())
    const begun = performance.now()
    const lock = await take(mutex, job, signals, speaker)
    if (lock === null)
        return conflict(mutex, job, speaker)
    note(`got the ${shared ? "shared" : "exclusive"} lock "${mutex.id}" after ${span(performance.now() - begun)}, token ${lock.token}`)
    let end
    try {
        end = await runCommand({ command, lock, grace, close, signals, speaker })
        note(`the command has ended with exit code ${end.code}`)
    }
    finally {
        signals.commandOver()
        end = await giveBack(mutex, lock, end, signals, speaker)
    }
    return end
}

/** A command in another process can only be kept apart by a lock that reaches there. */
function open (url, file) {
    if (/^[sm]pm:/.test(url))
        throw usage(`the lock ${url.slice(0, 4)} reaches no other process: a command needs a lock that others can take, lpm:... or rpm+...`)
    return new Mutex(url, { label: path.basename(file) })
}

/** @returns {Promise<object | null>} null: it is taken, and was not to be waited for any longer */
async function take (mutex, { shared, nonblock, timeout, verbose }, signals, speaker) {
    if (nonblock || timeout === 0) {
        // A grant that is under way when a signal comes is to be given back.
        const lock = await signals.orEnd(mutex.tryLock({ shared }), LAST)
        if (lock === null)
            signals.ending.throwIfAborted()
        return lock
    }
    const done = showWait(mutex, speaker, { verbose })
    try {
        return await mutex.lock({ shared, timeout, signal: signals.ending })
    }
    catch (error) {
        if (error.code === "ERR_TIMEOUT")
            return null
        throw error
    }
    finally {
        done()
    }
}

/** Whoever chose 0 as the exit code takes a conflict for success: cron then has nothing to report. */
async function conflict (mutex, { conflict: code = EXIT.CONFLICT, timeout = 0, verbose }, speaker) {
    if (code !== EXIT.OK || verbose) {
        const who = await mutex.query().then(inTheWay, () => "taken")
        const wait = timeout > 0 ? `; gave up after ${timeout / 1000} s` : ""
        speaker.say(`lock "${mutex.id}" is ${who === inTheWay({ held: [] }) ? "taken" : who}${wait}`)
    }
    await mutex.close().catch(() => {})
    return new Exit(code)
}

/** @returns {Promise<Exit>} `end`, unless it turns out that the lock had been lost before the command ended, or a signal ended the release */
async function giveBack (mutex, lock, end, signals, speaker) {
    try {
        await signals.orEnd(lock.release(), LAST)
    }
    catch (error) {
        if (error instanceof Exit)
            return error
        // A loss during the command has been told already.
        if (end?.code !== EXIT.LOST)
            speaker.say(error.message)
        if (error.code === "ERR_LOCK_LOST")
            end = new Exit(EXIT.LOST)
    }
    await mutex.close().catch(() => {})
    return end
}

module.exports = { runLocked }
