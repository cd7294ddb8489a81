"use strict"

const os = require("node:os")

/**
 * What the commands exit with where the command that they ran does not decide; the numbers are those of sysexits.h and of
 * the shell.
 */
const EXIT = Object.freeze({
    OK: 0,
    /** The lock is held by somebody else, and was not to be waited for any longer. `-E` takes another number. */
    CONFLICT: 1,
    /** The arguments make no sense. */
    USAGE: 64,
    /** The server cannot be used. */
    UNAVAILABLE: 69,
    /** A mistake in this program. */
    SOFTWARE: 70,
    /** The output cannot be written. */
    OUTPUT: 74,
    /** The lock was lost while the command ran. */
    LOST: 75,
    /** The command was found but cannot be executed. */
    NOT_EXECUTABLE: 126,
    /** There is no such command. */
    NOT_FOUND: 127
})

/** A reason to end with a message of one line and an exit code. */
class Exit extends Error {
    /** The signal to die of, instead of the exit code; with all of this process's group if that is how it came from the keyboard. */
    signal
    wholeGroup = false

    /**
     * @param {number} code
     * @param {string} [message] nothing is said without it
     */
    constructor (code, message = "") {
        super(message)
        this.code = code
    }
}

/**
 * To end as a command that a signal has ended.
 * @param {NodeJS.Signals | number} signal a number for one that has no name
 * @param {boolean} [wholeGroup]
 * @returns {Exit} with the code that a shell makes of it
 */
function bySignal (signal, wholeGroup = false) {
    const number = typeof signal === "number" ? signal : os.constants.signals[signal] ?? 0
    return Object.assign(new Exit(128 + number), typeof signal === "number" ? {} : { signal: number, wholeGroup })
}

/** @param {string} message @returns {Exit} */
const usage = (message) => new Exit(EXIT.USAGE, message)

/** What a failure to write to standard output means. A reader who has gone, as that of `| head`, has seen enough. */
const unwritten = ({ code }) => code === "EPIPE" ? new Exit(EXIT.OK) : new Exit(EXIT.OUTPUT, `cannot write to standard output: ${code}`)

/** @returns {Exit} what ended the program, whatever was thrown */
function verdict (error) {
    if (error instanceof Exit)
        return error
    const code = typeof error?.code === "string" ? error.code : ""
    const because = error?.cause?.message
    const message = because === undefined ? String(error?.message ?? error) : `${error.message}: ${because}`
    if (code === "ERR_INVALID_URL" || code === "ERR_INVALID_ARG_TYPE")
        return new Exit(EXIT.USAGE, message)
    if (code === "ERR_LOCK_LOST")
        return new Exit(EXIT.LOST, message)
    // All other errors of a lock come from its server.
    return new Exit(error?.name === "MutexError" ? EXIT.UNAVAILABLE : EXIT.SOFTWARE, message)
}

module.exports = { EXIT, Exit, bySignal, unwritten, usage, verdict }
