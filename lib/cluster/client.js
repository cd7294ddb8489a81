"use strict"

const native = require("../native.js")
const notify = require("../notify.js")
const { threadId } = require("../thread.js")
const { MutexError } = require("../errors.js")
const { Call } = require("./call.js")
const { Word } = require("./word.js")
const { setImmediate, setTimeout, clearTimeout } = require("../timing.js")
const { VERSION, ASK, ANSWER, SHARED, WAIT } = require("./frames.js")

/** How long `open()` waits for the other side to answer for the first time: so many times so many milliseconds. */
const LOOKS = 10, PATIENCE = 500

/** Why there are no answers any more, unless it is known better. */
const CUT = "the connection to the cluster primary is closed, and with it every lock that it gave"

const lost = (why = CUT) => new MutexError("ERR_LOCK_LOST", `the lock was lost: ${why}`)
const unreachable = (message) => new MutexError("ERR_PRIMARY", message)
const full = () => new MutexError("ERR_SERVER", "the lock table of the cluster primary is full")

/** The memory that was borrowed last, and from where: a client in the primary asks for it each time that it begins. */
let memory, lender

function borrowed (...address) {
    if (String(address) !== lender) {
        const buffer = native.clusterBorrow(...address)
        memory = buffer === undefined ? undefined : new Int32Array(buffer)
        lender = String(address)
    }
    return memory
}

/** The asking side: all mutexes of this thread that reach the lock table on the same way. */
class Client {
    #post
    #silence
    #unused
    #welcomed = false
    /** Why there will be no answers any more. */
    #end
    /** Requests that were not answered, by number, with the model that asked. */
    #requests = new Map()
    /** Calls that were not answered, by number. A request has its own for its withdrawal, and then for the release of its hold. */
    #calls = new Map()
    /** The numbers of requests that are held. */
    #holds = new Set()
    /** Mutexes whose `open()` waits, by number: `{ model, call }`. */
    #opening = new Map()
    /** Those whose `open()` has given up, and which must be closed should they be opened after all. */
    #abandoned = new Set()
    /** Those that are open. */
    #models = new Set()
    /** By id, while mutexes of it are open: how many they are, and how many of their requests were not answered. */
    #queues = new Map()
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
     * @param {() => void} unused called when no mutex is open any more
     */
    constructor (post, silence, unused = () => {}) {
        this.#post = post
        this.#silence = silence
        this.#unused = unused
    }

    /** @param {{ id: string, label?: string, number: number }} model gets its number */
    async open (model) {
        try {
            await this.#inTime(model, this.join(model))
        }
        catch (error) {
            if (model.number !== 0) {
                this.#forget(model)
                this.#rest()
            }
            throw error
        }
    }

    /**
     * Opens a model that may ask at once: the other side hears everything in this order. For one that comes first, `open` looks whether
     * there is another side.
     * @returns {Promise<void>} of its answer
     */
    join (model) {
        if (this.#end !== undefined)
            throw unreachable(this.#end)
        const number = model.number = ++this.#mutexes
        model.queue = this.#queues.get(model.id)
        if (model.queue === undefined)
            this.#queues.set(model.id, model.queue = { mutexes: 0, asked: 0 })
        model.queue.mutexes++
        const call = new Call()
        this.#opening.set(number, { model, call })
        this.#introduce([ number ])
        return call.promise
    }

    async #inTime (model, answer) {
        const { number } = model
        if (!this.#opening.has(number))
            return answer
        let timer
        // In several steps, as a machine that stands still keeps the other side from answering as well. A thread that was busy for long
        // looks once more for an answer that lies there already.
        const wait = (looks) => {
            timer = setTimeout(() => looks > 1 ? wait(looks - 1) : setImmediate(() => this.#giveUp(number)), PATIENCE)
        }
        wait(LOOKS)
        try {
            return await answer
        }
        finally {
            clearTimeout(timer)
        }
    }

    ask (model, request) {
        if (this.#end !== undefined)
            return request.failed(unreachable(this.#end))
        const number = request.key = this.#number() + (request.fenced ? 1 : 0)
        this.#requests.set(number, { model, request })
        model.queue.asked++
        this.#post([ ASK.REQUEST, model.number, number, (request.shared ? SHARED : 0) + (request.wait ? WAIT : 0) ])
    }

    /** @returns {Promise<void>} when the request is gone there too; without the other side it is */
    cancel ({ key }) {
        if (this.#answered(key) === undefined)
            return Promise.resolve()
        return this.#call(key, [ ASK.CANCEL, key ], () => undefined)
    }

    release (number) {
        this.#holds.delete(number)
        return this.#call(number, [ ASK.RELEASE, number ], (why) => lost(why.message))
    }

    /**
     * The hold of request `number`, or the one by the word if that is 0, is over, and its memory marked: the table's side must look.
     * @returns {Promise<void> | undefined} when it has been told; undefined: it has. Rejects with the loss if there is nobody to be told
     */
    marked (model, number) {
        this.#holds.delete(number)
        const leaving = this.#post([ ASK.MARKED, model.number, number ], true)
        if (leaving === undefined && this.#end === undefined)
            return undefined
        return Promise.resolve(leaving).then(() => {
            if (this.#end !== undefined)
                throw lost(this.#end)
        })
    }

    /** Looks whether the other side still serves us: it says so in the lent memory before it serves others with what we had. */
    verify () {
        if (this.#memory !== undefined && Atomics.load(this.#memory, this.#sign) !== this.#owner)
            this.#ended(CUT)
    }

    /** @param {string | null} id null for all locks */
    query (id) {
        const number = this.#number()
        return this.#call(number, [ ASK.QUERY, number, id ])
    }

    async close (model) {
        this.#forget(model)
        // Without the other side nothing is left to be closed.
        const number = this.#number()
        await this.#call(number, [ ASK.CLOSE, number, model.number ], () => undefined)
        this.#rest()
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
                case ANSWER.GRANTED:   this.#granted(number); break
                case ANSWER.FENCED:    this.#granted(number, BigInt(frame[at++])); break
                case ANSWER.BUSY:      this.#answered(number)?.busy(); break
                case ANSWER.FULL:      this.#answered(number)?.failed(full()); break
                case ANSWER.RELEASED:
                case ANSWER.WITHDRAWN:
                case ANSWER.CLOSED:    this.#returned(number)?.done(); break
                case ANSWER.REFUSED:   this.#returned(number)?.failed(lost("the cluster primary knows nothing of this hold")); break
                case ANSWER.SNAPSHOT:  this.#returned(number)?.done(frame[at++]); break
                case ANSWER.OPENED:    this.#isOpen(number, frame[at++], frame[at++]); break
                case ANSWER.UNOPENED:  this.#openingOver(number)?.failed(full()); break
                case ANSWER.WELCOME:
                    if (!this.#welcome(number, frame, at))
                        return
                    at += 6
                    break
                default: return
            }
        }
    }

    /** A grant that is heard late may be one of before we were cut off. */
    #granted (number, token) {
        this.verify()
        const request = this.#answered(number)
        if (request === undefined)
            return
        this.#holds.add(number)
        // One that is about to be cancelled does not want it any more.
        if (!request.granted(number, token))
            this.release(number).catch(() => {})
    }

    #introduce (numbers) {
        if (numbers.length > 0 && !this.#welcomed)
            this.#post([ ASK.HELLO, VERSION ])
        for (const number of numbers) {
            const model = this.#opening.get(number)?.model
            if (model !== undefined)
                this.#post([ ASK.OPEN, number, model.id, model.label ?? null, threadId ])
        }
    }

    #welcome (version, frame, at) {
        this.#welcomed = version === VERSION
        if (!this.#welcomed) {
            this.#ended("the cluster primary runs another version of ipc-mutex, which does not understand this one: install the same version for both")
            return false
        }
        if (this.#memory === undefined && frame[at + 1] !== 0) {
            const [ owner, pid, file, first, second, sign ] = frame.slice(at)
            this.#memory = borrowed(pid, file, first, second)
            this.#owner = owner
            this.#sign = sign
        }
        return true
    }

    #giveUp (number) {
        const call = this.#openingOver(number)
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
        this.#openingOver(number)?.done()
        if (this.#abandoned.delete(number))
            // Nobody waits for the answer to this.
            this.#post([ ASK.CLOSE, 0, number ])
    }

    #forget (model) {
        this.#models.delete(model)
        if (--model.queue.mutexes === 0)
            this.#queues.delete(model.id)
    }

    #rest () {
        if (this.#queues.size === 0)
            this.#unused()
    }

    #openingOver (number) {
        const call = this.#opening.get(number)?.call
        this.#opening.delete(number)
        return call
    }

    /** Asks what has one answer, under a number; see `Call` for what comes of it without one. */
    #call (number, words, unanswered) {
        const call = new Call(unanswered)
        if (this.#end === undefined) {
            this.#calls.set(number, call)
            this.#post(words)
        }
        else
            call.ended(unreachable(this.#end))
        return call.promise
    }

    #ended (why) {
        if (this.#end !== undefined)
            return
        this.#end = why
        const error = unreachable(why)
        for (const model of this.#models)
            model.ended(error)
        for (const number of [ ...this.#requests.keys() ])
            this.#answered(number)?.failed(error)
        const calls = [ ...this.#calls.values(), ...[ ...this.#opening.values() ].map(({ call }) => call) ]
        this.#calls.clear()
        this.#opening.clear()
        for (const call of calls)
            call.ended(error)
        notify.flush()
    }

    /** @returns {import("../request.js").Request | undefined} the one with this number, which has its answer now */
    #answered (number) {
        const asked = this.#requests.get(number)
        if (asked === undefined)
            return undefined
        this.#requests.delete(number)
        asked.model.queue.asked--
        return asked.request
    }

    #returned (number) {
        const call = this.#calls.get(number)
        this.#calls.delete(number)
        return call
    }

    /** An even number that is free, and so is the odd one after it. */
    #number () {
        do
            this.#last = this.#last >= 0x7ffffffc ? 2 : this.#last + 2
        while (this.#isUsed(this.#last) || this.#isUsed(this.#last + 1))
        return this.#last
    }

    #isUsed (number) {
        return this.#requests.has(number) || this.#holds.has(number) || this.#calls.has(number)
    }
}

module.exports = { Client, lost }
