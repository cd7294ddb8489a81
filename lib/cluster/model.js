"use strict"

const snapshot = require("../snapshot.js")
const { BY_WORD, DONE } = require("../hold.js")
const { lost } = require("./client.js")
const { NONE } = require("./word.js")

/** A lock of a cluster's primary and all its workers. */
class MpmModel {
    /**
     * @param {() => import("./client.js").Client} connect gives the way from this thread to the lock table
     * @param {import("../session.js").Session} session
     */
    constructor (connect, session, label) {
        this.connect = connect
        this.session = session
        this.id      = session.id
        this.label   = label
        this.client  = undefined
        /** Until when it must not be closed. */
        this.opening = undefined
        /** Its number with the client. */
        this.number  = 0
        /** The lock's word; the client gives it. */
        this.word    = NONE
        /** What all mutexes of the id in this thread share; the client gives it. */
        this.queue   = undefined
        /** Whether a hold of `acquire()` stands in the word and has no other trace. */
        this.isTaken = false
    }

    /** @throws {MutexError} ERR_PRIMARY */
    async open () {
        this.client = this.connect()
        await this.client.open(this)
    }

    /** @param {MpmModel} other */
    openWith ({ client }) {
        this.client = client
        // Its requests hear of a failure.
        this.opening = client.join(this).catch(() => {})
    }

    /** Takes the lock if nobody has it and nobody waits. */
    take () {
        return this.#takeWord() && (this.isTaken = true)
    }

    /** One of this thread that has asked before and is still on its way comes first. */
    #takeWord () {
        return this.queue.asked === 0 && this.word.take()
    }

    /** Gives back what `take` took. */
    free () {
        this.isTaken = false
        return this.#release(true, true, 0)
    }

    ask (request) {
        if (!request.shared && !request.fenced && this.#takeWord())
            request.granted(BY_WORD)
        else
            this.client.ask(this, request)
    }

    /** @returns {Promise<void>} when the request is gone from the primary's queue; a grant that crossed it is given back */
    cancel (request) {
        return this.client.cancel(request)
    }

    release (hold) {
        const byWord = hold.key === BY_WORD
        return this.#release(byWord, !hold.shared, byWord ? 0 : hold.key)
    }

    #release (byWord, isExclusive, number) {
        if (byWord && this.word.free())
            return DONE
        if (isExclusive && this.word.leave())
            return this.client.marked(this, number) ?? DONE
        return byWord ? Promise.reject(lost()) : this.client.release(number)
    }

    /** Ends the hold if the table's side does not serve this process any more, whether or not that has been heard. */
    verify (_hold) {
        this.client.verify()
    }

    /** The table is out of reach. */
    ended (why) {
        this.word.free()
        this.word = NONE
        this.session.lost(lost(why.message))
    }

    async query () {
        return snapshot.parse(await this.client.query(this.id))
    }

    /** @returns {Promise<Array<[ id: string, seen: object ]>>} everybody at every lock */
    async queryAll () {
        return snapshot.parseAll(await this.client.query(null))
    }

    async close (holds) {
        if (this.isTaken)
            this.free().catch(() => {})
        for (const hold of holds)
            // A loss on the way frees it as well.
            this.release(hold).catch(() => {})
        this.word = NONE
        await this.opening
        await this.client.close(this)
    }
}

module.exports = { MpmModel }
