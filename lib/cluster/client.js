"use strict"

const native = require("../native.js")
const port = require("../port.js")
const { threadId } = require("../thread.js")
const { MutexError } = require("../errors.js")
const { CUT, lost, Request, Call } = require("./request.js")
const { Word } = require("./word.js")
const { VERSION, ASK, ANSWER, SHARED, WAIT } = require("./frames.js")

/** How long `open()` waits for the other side to answer for the first time: so many times so many milliseconds. */
const LOOKS = 10, PATIENCE = 500

const unreachable = (message) => new MutexError("ERR_PRIMARY", message)
const full = () => new MutexError("ERR_SERVER", "the lock table of the cluster primary is full")

/** The asking side: all mutexes of this thread that reach the lock table on the same way. */
class Client {
    #post
    #silence
    #welcomed = false
    /** Why there will be no answers any more. */
    #end
    /** Whatever has a number that an answer may name. */
    #asked = new Map()
    /** Mutexes whose `open()` waits, by number: `{ model, call }`. */
    #opening = new Map()
    /** Those whose `open()` has given up, and which must be closed should they be opened after all. */
    #abandoned = new Set()
    /** Those that are open. */
    #models = new Set()
    /** By id, while mutexes of it are open: how many they are, and how many of their requests are on the way. */
    #ways = new Map()
    /** The memory with the locks' words, if it is lent, where in it our sign is, and what that is. */
    #memory
    #sign
    #owner
    #mutexes = 0
    #last = 0

    /**
     * @param {(words: Array<number | string | null>, urgent?: boolean) => Promise<void> | undefined} post says something to the other side;
     *     if it is urgent, tells when it has left, undefined for at once
     * @param {() => string} silence what to tell the user if the other side never answers
     */
    constructor (post, silence) {
        this.#post = post
        this.#silence = silence
        port.attach()
    }

    /** @param {{ id: string, label?: string, number: number }} model gets its number */
    async open (model) {
        if (this.#end !== undefined)
            throw unreachable(this.#end)
        const number = model.number = ++this.#mutexes
        model.way = this.#ways.get(model.id)
        if (model.way === undefined)
            this.#ways.set(model.id, model.way = { mutexes: 0, asked: 0 })
        model.way.mutexes++
        try {
            await this.#opened(model, number)
        }
        catch (error) {
            this.#forget(model)
            throw error
        }
    }

    async #opened (model, number) {
        const call = new Call()
        this.#opening.set(number, { model, call })
        this.#introduce([ number ])
        if (!this.#opening.has(number))
            return call.promise
        let timer
        // In several steps, as a machine that stands still keeps the other side from answering as well. A thread that was busy for long
        // looks once more for an answer that lies there already.
        const wait = (looks) => {
            timer = setTimeout(() => looks > 1 ? wait(looks - 1) : setImmediate(() => this.#giveUp(number)), PATIENCE)
        }
        wait(LOOKS)
        try {
            return await call.promise
        }
        finally {
            clearTimeout(timer)
        }
    }

    request (model, waiter) {
        if (this.#end !== undefined)
            return waiter.failed(unreachable(this.#end))
        const number = this.#number() + (waiter.fenced ? 1 : 0)
        waiter.key = number
        this.#asked.set(number, new Request(number, model, waiter))
        this.#post([ ASK.REQUEST, model.number, number, (waiter.shared ? SHARED : 0) + (waiter.wait ? WAIT : 0) ])
    }

    /** @returns {Promise<void>} when the waiter is gone there too */
    cancel (waiter) {
        const gone = this.#asked.get(waiter.key).withdraw()
        this.#post([ ASK.CANCEL, waiter.key ])
        return gone
    }

    release (hold) {
        const released = hold.request.release()
        this.#post([ ASK.RELEASE, hold.key ])
        return released
    }

    /**
     * The hold of request `number`, or the one by the word if that is 0, is over: the table's side must look.
     * @returns {Promise<void> | undefined} when it has been told; undefined: it has. Rejects with the loss if there is nobody to be told
     */
    left (model, number) {
        this.#asked.delete(number)
        const leaving = this.#post([ ASK.LEFT, model.number, number ], true)
        if (leaving === undefined && this.#end === undefined)
            return undefined
        return Promise.resolve(leaving).then(() => {
            if (this.#end !== undefined)
                throw lost(this.#end)
        })
    }

    query (id) {
        return this.#call((number) => [ ASK.QUERY, number, id ])
    }

    async close (model) {
        this.#forget(model)
        // Without the other side nothing is left to be closed.
        if (this.#end === undefined)
            await this.#call((number) => [ ASK.CLOSE, number, model.number ]).catch(() => {})
    }

    /**
     * Does what a frame from the other side says.
     * @param {Array<number | string>} frame
     * @param {number} at where it begins in the array
     */
    hear (frame, at) {
        while (at < frame.length) {
            const kind = frame[at++]
            if (kind === ANSWER.READY) {
                this.#introduce([ ...this.#opening.keys() ])
                continue
            }
            if (kind === ANSWER.ENDED)
                return this.#ended(CUT)
            const number = frame[at++]
            switch (kind) {
                case ANSWER.GRANTED:   this.#asked.get(number)?.granted(); break
                case ANSWER.FENCED:    this.#asked.get(number)?.granted(BigInt(frame[at++])); break
                case ANSWER.BUSY:      this.#over(number)?.busy(); break
                case ANSWER.RELEASED:
                case ANSWER.WITHDRAWN:
                case ANSWER.CLOSED:    this.#over(number)?.done(); break
                case ANSWER.REFUSED:   this.#refused(number); break
                case ANSWER.SNAPSHOT:  this.#over(number)?.done(frame[at++]); break
                case ANSWER.OPENED:    this.#isOpen(number, frame[at++], frame[at++]); break
                case ANSWER.UNOPENED:  this.#settle(number)?.failed(full()); break
                case ANSWER.FULL:      this.#over(number)?.failed(full()); break
                case ANSWER.WELCOME:
                    if (!this.#welcome(number, frame, at))
                        return
                    at += 6
                    break
                default: return
            }
        }
    }

    /** May answer a release that was none of ours, if others in this process speak in our name. */
    #refused (number) {
        if (this.#asked.get(number)?.isReleasing)
            this.#over(number).refused()
    }

    #introduce (numbers) {
        if (numbers.length === 0)
            return
        const words = this.#welcomed ? [] : [ ASK.HELLO, VERSION ]
        for (const number of numbers) {
            const { id, label } = this.#opening.get(number).model
            words.push(ASK.OPEN, number, id, label ?? null, threadId)
        }
        this.#post(words)
    }

    #welcome (version, frame, at) {
        this.#welcomed = version === VERSION
        if (!this.#welcomed) {
            this.#ended("the cluster primary runs another version of ipc-mutex, which does not understand this one: install the same version for both")
            return false
        }
        if (this.#memory === undefined && frame[at + 1] !== 0) {
            const [ owner, pid, file, first, second, sign ] = frame.slice(at)
            const memory = native.clusterBorrow(pid, file, first, second)
            if (memory !== undefined)
                this.#memory = new Int32Array(memory)
            this.#owner = owner
            this.#sign = sign
        }
        return true
    }

    #giveUp (number) {
        const call = this.#settle(number)
        if (call !== undefined) {
            this.#abandoned.add(number)
            call.failed(unreachable(this.#silence()))
        }
    }

    #isOpen (number, handle, at) {
        const opening = this.#opening.get(number)
        if (opening !== undefined) {
            if (this.#memory !== undefined && at !== 0)
                opening.model.word = new Word(this.#memory, at, handle, this.#sign, this.#owner)
            this.#models.add(opening.model)
        }
        this.#settle(number)?.done()
        if (this.#abandoned.delete(number))
            // Nobody waits for the answer to this.
            this.#post([ ASK.CLOSE, 0, number ])
    }

    #forget (model) {
        this.#models.delete(model)
        if (--model.way.mutexes === 0)
            this.#ways.delete(model.id)
    }

    #settle (number) {
        const call = this.#opening.get(number)?.call
        this.#opening.delete(number)
        return call
    }

    #call (words) {
        if (this.#end !== undefined)
            return Promise.reject(unreachable(this.#end))
        const number = this.#number(), call = new Call()
        this.#asked.set(number, call)
        this.#post(words(number))
        return call.promise
    }

    #ended (why) {
        if (this.#end !== undefined)
            return
        this.#end = why
        const all = [ ...this.#asked.values(), ...[ ...this.#opening.values() ].map(({ call }) => call) ]
        this.#asked.clear()
        this.#opening.clear()
        // Each by itself: what a listener of the user throws must not keep the news from the others.
        for (const one of [ ...this.#models, ...all ])
            process.nextTick(() => one.ended(unreachable(why)))
    }

    #over (number) {
        const one = this.#asked.get(number)
        this.#asked.delete(number)
        return one
    }

    /** An even number that is free, and so is the odd one after it. */
    #number () {
        do
            this.#last = this.#last >= 0x7ffffffc ? 2 : this.#last + 2
        while (this.#asked.has(this.#last) || this.#asked.has(this.#last + 1))
        return this.#last
    }
}

module.exports = { Client }
