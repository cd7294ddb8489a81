"use strict"

const fs = require("node:fs")
const tty = require("node:tty")

/** Text from elsewhere in one line, without what could steer a terminal. */
const oneLine = (text) => text.replace(/\s*[\r\n]+\s*/g, " ").replace(/\p{Cc}/gu, "?").trim()

/** As much as a pipe that can be written to takes at once. */
const PAGE = 4096
/** How often words that could not be written are tried again, and for how long at the end, in milliseconds. */
const AGAIN = 50, LAST = 1000

/**
 * Our own words: lines on standard error, each with the program's name, so that standard output is the command's alone.
 */
class Speaker {
    /**
     * @param {string} program how the lines begin
     * @param {(descriptor: number) => boolean} isWritable whether a write would return at once
     */
    constructor (program, isWritable) {
        this.program = program
        this.#isWritable = isWritable
        // Not by process.stderr, which would change how the command's standard error behaves where that is a pipe.
        this.#terminal = tty.isatty(2)
    }

    #isWritable
    #terminal
    #status = false
    /** What could not be written yet. */
    #left = Buffer.alloc(0)
    #timer

    /** Whether somebody is watching who likes to know how the wait goes. */
    get isTerminal () {
        return this.#terminal
    }

    /** A line that stays. */
    say (text) {
        this.clear()
        this.#write(`${this.program}: ${oneLine(text)}\n`)
    }

    /** A line that the next one replaces; on a terminal only. */
    status (text) {
        if (!this.#terminal || this.#left.length > 0)
            return
        const width = (process.stderr.columns ?? 80) - 1
        const line = `${this.program}: ${oneLine(text)}`
        this.#write(`\r\x1b[K${line.length > width ? `${line.slice(0, width - 1)}…` : line}`)
        this.#status = true
    }

    /** Takes the replaceable line away. */
    clear () {
        if (this.#status)
            this.#write("\r\x1b[K")
        this.#status = false
    }

    /** Before the program ends: a last try to write what is left. */
    finish () {
        const pause = new Int32Array(new SharedArrayBuffer(4))
        for (let waited = 0; !this.#flush() && waited < LAST; waited += AGAIN)
            Atomics.wait(pause, 0, 0, AGAIN)
    }

    /** At once, so that nothing comes after the command's first output; but a reader who has stopped to read must not stop this program. */
    #write (text) {
        this.#left = Buffer.concat([ this.#left, Buffer.from(text) ])
        this.#later()
    }

    #later () {
        clearTimeout(this.#timer)
        if (!this.#flush())
            this.#timer = setTimeout(() => this.#later(), AGAIN).unref()
    }

    /** @returns {boolean} whether nothing is left to write */
    #flush () {
        while (this.#left.length > 0) {
            if (!this.#isWritable(2))
                return false
            try {
                this.#left = this.#left.subarray(fs.writeSync(2, this.#left, 0, Math.min(this.#left.length, PAGE)))
            }
            catch (error) {
                if (error.code === "EAGAIN")
                    return false
                // There is nobody to tell.
                this.#left = this.#left.subarray(this.#left.length)
            }
        }
        return true
    }
}

module.exports = { Speaker, oneLine }
