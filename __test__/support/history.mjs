// What happened to locks, as their users saw it, recorded cheaply in any number of threads and processes of one machine;
// checker.mjs judges it afterwards.
//
// The recorder must be called at moments that make the recorded hold a part of the true one, so that every overlap
// that is found is real: `ask` just before acquire is called, `grant` when it has resolved, `release` just BEFORE release
// is called, `lost` when the loss is learned, `cancel` when acquire has rejected.
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"
export { check } from "./checker.mjs"

/** Nanoseconds on a clock that all processes of the machine share (CLOCK_MONOTONIC), as a bigint. */
export function now () {
    return process.hrtime.bigint()
}

/** The kinds of events. `gone` ends everything that its owner asked for or holds: its process was killed. */
export const KINDS = Object.freeze([ "ask", "grant", "release", "lost", "cancel", "gone" ])
const MODES = [ "exclusive", "shared" ]
const NO_TOKEN = -1n

/**
 * Events `{ id, owner, kind, mode, attempt, token, at }` in columns.
 *
 * An owner has at most one request or hold of one id at a time; give each asynchronous flow an owner of its own.
 * Owners of different histories are different when their names are, so put the process id into the name.
 */
export class History {
    #names = []
    #numbers = new Map()
    #length = 0
    #code
    #name
    #token
    #at
    #file

    /**
     * @param {object} [options]
     * @param {string} [options.file] writes every event to this file at once, so that it survives a SIGKILL
     */
    constructor ({ file } = {}) {
        this.#reserve(256)
        if (file !== undefined)
            this.#file = openSync(file, "a")
    }

    get length () { return this.#length }

    /**
     * A request begins. `attempt: "try"` marks one that does not queue when the lock is taken (then record `cancel`).
     * `at` (of `now()`) stands in for the present, in all methods.
     */
    ask (id, owner, { mode = "exclusive", attempt = "wait", at = now() } = {}) { this.#add("ask", id, owner, at, { mode, attempt }) }

    /** A request was granted, with a fencing token if there is one. */
    grant (id, owner, { token, at = now() } = {}) { this.#add("grant", id, owner, at, { token }) }

    /** The holder is about to release. */
    release (id, owner, { at = now() } = {}) { this.#add("release", id, owner, at) }

    /** The holder has learned that its hold is lost. */
    lost (id, owner, { at = now() } = {}) { this.#add("lost", id, owner, at) }

    /** A request has ended without a grant. */
    cancel (id, owner, { at = now() } = {}) { this.#add("cancel", id, owner, at) }

    /** The owner is about to be killed: give the moment before. */
    gone (owner, { at = now() } = {}) { this.#add("gone", "", owner, at) }

    /** The events, in the order in which they were recorded. */
    * events () {
        for (let index = 0; index < this.#length; index++)
            yield this.event(index)
    }

    event (index) {
        const code = this.#code[index]
        const token = this.#token[index]
        return {
            kind: KINDS[code & 7],
            mode: MODES[code >> 3 & 1],
            attempt: code >> 4 & 1 ? "try" : "wait",
            id: this.#names[this.#name[2 * index]],
            owner: this.#names[this.#name[2 * index + 1]],
            token: token === NO_TOKEN ? undefined : token,
            at: this.#at[index]
        }
    }

    /** A plain object for `process.send`, `postMessage` and JSON; `History.from` reads it. */
    toJSON () {
        const bytes = (column) => Buffer.from(column.buffer, 0, column.BYTES_PER_ELEMENT * (column === this.#name ? 2 : 1) * this.#length).toString("base64")
        return { names: this.#names, length: this.#length, code: bytes(this.#code), name: bytes(this.#name), token: bytes(this.#token), at: bytes(this.#at) }
    }

    static from (plain) {
        const history = new History()
        const column = (type, text) => type.from(new type(new Uint8Array(Buffer.from(text, "base64")).buffer))
        history.#names = [ ...plain.names ]
        history.#numbers = new Map(history.#names.map((name, number) => [ name, number ]))
        history.#length = plain.length
        history.#code = column(Uint8Array, plain.code)
        history.#name = column(Uint32Array, plain.name)
        history.#token = column(BigInt64Array, plain.token)
        history.#at = column(BigInt64Array, plain.at)
        return history
    }

    /** Reads what a recorder with `file` has written, also one that was killed. */
    static read (file) {
        const history = new History()
        const lines = readFileSync(file, "utf8").split("\n")
        lines.pop() // the empty text behind the last line, or a line that was cut short
        for (const line of lines) {
            const [ kind, id, owner, at, mode, attempt, token ] = JSON.parse(line)
            history.#add(kind, id, owner, BigInt(at), { mode, attempt, token: token === null ? undefined : BigInt(token) })
        }
        return history
    }

    /** Ends the recording to a file. */
    close () {
        if (this.#file !== undefined)
            closeSync(this.#file)
        this.#file = undefined
    }

    #add (kind, id, owner, at, { mode = "exclusive", attempt = "wait", token } = {}) {
        if (!MODES.includes(mode))
            throw new TypeError(`unknown mode ${mode}`)
        const index = this.#length
        if (index === this.#code.length)
            this.#reserve(2 * index)
        this.#code[index] = KINDS.indexOf(kind) | MODES.indexOf(mode) << 3 | (attempt === "try" ? 1 : 0) << 4
        this.#name[2 * index] = this.#number(id)
        this.#name[2 * index + 1] = this.#number(String(owner))
        this.#token[index] = token === undefined ? NO_TOKEN : BigInt(token)
        this.#at[index] = at
        this.#length++
        if (this.#file !== undefined)
            writeSync(this.#file, `${JSON.stringify([ kind, id, String(owner), String(at), mode, attempt, token === undefined ? null : String(token) ])}\n`)
    }

    #number (name) {
        let number = this.#numbers.get(name)
        if (number === undefined) {
            number = this.#names.push(name) - 1
            this.#numbers.set(name, number)
        }
        return number
    }

    #reserve (capacity) {
        const grown = (type, old, factor = 1) => {
            const column = new type(capacity * factor)
            if (old !== undefined)
                column.set(old)
            return column
        }
        this.#code = grown(Uint8Array, this.#code)
        this.#name = grown(Uint32Array, this.#name, 2)
        this.#token = grown(BigInt64Array, this.#token)
        this.#at = grown(BigInt64Array, this.#at)
    }
}
