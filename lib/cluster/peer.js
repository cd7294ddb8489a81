"use strict"

const native = require("../native.js")
const port = require("../port.js")
const { VERSION, ASK, ANSWER, SHARED, WAIT, isFenced } = require("./frames.js")

/** The addon's answers that are not numbers of grants; see `src/binding/cluster.rs`. */
const UNKNOWN = -1, GRANTED_ALREADY = -3

/** By the table's numbers of owners. */
const peers = new Map()

/** Tells those whom a call of the table let in. */
function handOut (grants) {
    if (grants <= 0)
        return
    const granted = native.clusterGrants()
    for (let at = 0; at < granted.length; at += 3)
        peers.get(granted[at])?.granted(granted[at + 1], granted[at + 2])
}

// Let in by another thread; the owner may have gone meanwhile, and then so has the hold.
port.onClusterGrant((owner, request, ticket) => peers.get(owner)?.granted(request, ticket))

/** The table's side of one client: does what its frames ask, in the client's name, and answers. */
class Peer {
    #env = port.enter()
    #owner
    /** Where the client finds the words of the locks. */
    #lent
    #pid
    #answer
    /** By the client's numbers: handle of each mutex and place of its lock's word; tickets of its requests. */
    #handles = new Map()
    #tickets = new Map()

    /**
     * @param {number} pid the client's process
     * @param {(words: Array<number | string>) => void} answer says something to the client
     */
    constructor (pid, answer) {
        this.#owner = native.clusterOwner(this.#env)
        this.#lent = native.clusterLend(this.#owner) ?? [ 0, 0, 0, 0, 0 ]
        this.#pid = pid
        this.#answer = answer
        peers.set(this.#owner, this)
    }

    /**
     * Does what a frame asks. Whatever it contains, nothing throws, and nobody else's locks are touched.
     * @param {Array<number | string | null>} frame
     * @param {number} at where it begins in the array
     */
    take (frame, at) {
        while (at < frame.length) {
            switch (frame[at]) {
                case ASK.REQUEST: this.#request(frame[at + 1], frame[at + 2], frame[at + 3]); at += 4; break
                case ASK.RELEASE: this.#release(frame[at + 1]); at += 2; break
                case ASK.MARKED:  this.#marked(frame[at + 1], frame[at + 2]); at += 3; break
                case ASK.CANCEL:  this.#cancel(frame[at + 1]); at += 2; break
                case ASK.OPEN:    this.#open(frame[at + 1], frame[at + 2], frame[at + 3], frame[at + 4]); at += 5; break
                case ASK.CLOSE:   this.#close(frame[at + 1], frame[at + 2]); at += 3; break
                case ASK.QUERY:   this.#query(frame[at + 1], frame[at + 2]); at += 3; break
                case ASK.HELLO:
                    if (frame[at + 1] !== VERSION)
                        return this.#answer([ ANSWER.WELCOME, VERSION ])
                    this.#answer([ ANSWER.WELCOME, VERSION, this.#owner, ...this.#lent ])
                    at += 2
                    break
                default: return
            }
        }
    }

    /** A request of this client, which was queued, has the lock. A request that was cancelled meanwhile has given it back. */
    granted (request, ticket) {
        if (this.#tickets.get(request) === ticket)
            this.#tellGrant(request, ticket)
    }

    /** The client is gone: everything of it is free. */
    end () {
        peers.delete(this.#owner)
        this.#answer = () => {}
        handOut(native.clusterGone(this.#env, this.#owner))
        port.leave()
    }

    #tellGrant (request, ticket) {
        this.#answer(isFenced(request) ? [ ANSWER.FENCED, request, native.clusterToken(ticket) ] : [ ANSWER.GRANTED, request ])
    }

    #open (mutex, id, label, thread) {
        if (!this.#handles.has(mutex)) {
            const opened = native.clusterOpen(this.#owner, id, label, this.#pid, thread)
            if (opened === undefined)
                return this.#answer([ ANSWER.UNOPENED, mutex ])
            this.#handles.set(mutex, opened)
        }
        this.#answer([ ANSWER.OPENED, mutex, ...this.#handles.get(mutex) ])
    }

    #request (mutex, request, flags) {
        const handle = this.#handleOf(mutex)
        const wait = (flags & WAIT) !== 0
        const ticket = native.clusterRequest(handle, (flags & SHARED) !== 0, wait, request)
        if (ticket === 0)
            return this.#answer([ wait ? ANSWER.FULL : ANSWER.BUSY, request ])
        this.#tickets.set(request, Math.abs(ticket))
        if (ticket > 0)
            this.#tellGrant(request, ticket)
    }

    #release (request) {
        const ticket = this.#tickets.get(request)
        const grants = ticket === undefined ? UNKNOWN : native.clusterRelease(this.#env, this.#owner, ticket)
        if (grants === UNKNOWN)
            return this.#answer([ ANSWER.REFUSED, request ])
        this.#tickets.delete(request)
        this.#answer([ ANSWER.RELEASED, request ])
        handOut(grants)
    }

    #marked (mutex, request) {
        this.#tickets.delete(request)
        handOut(native.clusterLeft(this.#env, this.#handleOf(mutex)))
    }

    #query (call, id) {
        this.#answer([ ANSWER.SNAPSHOT, call, id === null ? native.clusterSnapshots() : native.clusterSnapshot(id) ])
    }

    #handleOf (mutex) {
        return this.#handles.get(mutex)?.[0] ?? 0
    }

    #cancel (request) {
        const ticket = this.#tickets.get(request)
        if (ticket !== undefined) {
            this.#tickets.delete(request)
            const grants = native.clusterCancel(this.#env, this.#owner, ticket)
            // The grant and the cancel have crossed each other on the way.
            handOut(grants === GRANTED_ALREADY ? native.clusterRelease(this.#env, this.#owner, ticket) : grants)
        }
        this.#answer([ ANSWER.WITHDRAWN, request ])
    }

    #close (call, mutex) {
        const handle = this.#handleOf(mutex)
        if (this.#handles.delete(mutex))
            handOut(native.clusterClose(this.#env, handle))
        this.#answer([ ANSWER.CLOSED, call ])
    }
}

module.exports = { Peer }
