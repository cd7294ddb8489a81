// A server that is none: it stands in the addon's place for the calls about locks on servers, takes them in their order, and answers when the test
// says so, in any order. To be imported before the package.
import { createRequire } from "node:module"
import { Reference } from "./reference.mjs"

const require = createRequire(import.meta.url)
const path = require.resolve("../../lib/native.js")
const real = require(path)

/** As in `src/binding/event.rs`. */
const GRANTED = 0, BUSY = 1, DONE = 2, SNAPSHOT = 3, FAILED = 4, LOST = 5

export class FakeServer {
    /** Called when a request comes in: what stands for it in the walk. */
    onrequest = () => undefined
    /** Called when a grant or a loss is about to be heard. */
    onheard = () => {}
    /** After so many steps everything that was asked has been answered. */
    patience = 10_000
    /** So many steps are one turn. */
    pace = 8
    #random = () => 0
    #answer
    #mutexes = new Map()
    #locks = new Map()
    #requests = new Map()
    #commands = []
    #answers = []
    #last = 0
    #token = 0n

    constructor () {
        const later = (command) => { this.#commands.push(command) }
        require.cache[path].exports = {
            ...real,
            attach: (answer, ...rest) => {
                this.#answer = answer
                return real.attach(answer, ...rest)
            },
            laneOf: () => 0,
            remoteOpen: (_env, call, url) => {
                const mutex = ++this.#last
                const id = new URL(url).pathname.slice(1)
                if (!this.#locks.has(id))
                    this.#locks.set(id, new Reference())
                this.#mutexes.set(mutex, this.#locks.get(id))
                later(() => this.#say(call, DONE))
                return mutex
            },
            remoteRequest: (_env, number, mutex, shared, wait, fenced) => {
                const request = { number, mutex, shared, fenced, state: "asked", believed: false, call: this.onrequest() }
                this.#requests.set(number, request)
                later(() => this.#request(request, wait))
            },
            remoteCancel: (_env, call, number) => later(() => {
                this.#leave(this.#requests.get(number), "withdrawn")
                if (this.#random(4) === 0)
                    this.#say(call, FAILED, "ERR_CONNECT", "the server was away")
                else
                    this.#say(call, DONE)
            }),
            remoteRelease: (_env, number) => {
                const request = this.#requests.get(number)
                request.believed = false
                later(() => this.#release(request))
            },
            remoteBelieved: (_env, number) => this.#requests.get(number)?.believed === true,
            remoteQuery: (_env, call, mutex) => later(() => {
                const list = (requests) => requests.map(({ shared }) => ({ mode: shared ? "shared" : "exclusive" }))
                const { holders, queue } = this.#mutexes.get(mutex)
                this.#say(call, SNAPSHOT, JSON.stringify({ held: list(holders), pending: list(queue) }))
            }),
            remoteClose: (_env, call, mutex) => later(() => {
                const mine = [ ...this.#requests.values() ].filter((request) => request.mutex === mutex && request.state !== "releasing")
                for (const request of mine.filter(({ state }) => state === "asked"))
                    this.#leave(request, "closed")
                for (const request of mine)
                    this.#leave(request, "closed")
                this.#say(call, DONE)
            })
        }
    }

    /** @param {(below: number) => number} random */
    begin (random) {
        this.#random = random
    }

    get isIdle () {
        return this.#commands.length + this.#answers.length === 0
    }

    get isFree () {
        return [ ...this.#locks.values() ].every(({ holders, queue }) => holders.length + queue.length === 0)
    }

    /** Takes a call, or lets an answer be heard: of all numbers that have one any may be next. */
    step () {
        if (this.#commands.length > 0 && (this.#answers.length === 0 || this.#random(2) === 0))
            return this.#commands.shift()()
        if (this.#answers.length === 0)
            return
        const { number } = this.#answers[this.#random(this.#answers.length)]
        const place = this.#answers.findIndex((answer) => answer.number === number)
        const [ { kind, args, heard } ] = this.#answers.splice(place, 1)
        heard?.()
        this.#answer(kind, number, ...args)
        // Only now may others get what was lost.
        if (kind === LOST)
            this.#leave(this.#requests.get(number), "lost")
    }

    /** Some hold ends behind the back of its holder. @returns {unknown} what stands for it in the walk */
    lose () {
        const held = [ ...this.#requests.values() ].filter(({ state }) => state === "held")
        if (held.length === 0)
            return
        const request = held[this.#random(held.length)]
        request.state = "losing"
        request.believed = false
        this.#tellLoss(request)
        return request.call
    }

    #tellLoss (request) {
        this.#answers.push({ number: request.number, kind: LOST, args: [ "ERR_LOCK_LOST", "lost" ], heard: () => this.onheard("lost", request.call) })
    }

    #say (number, kind, ...args) {
        this.#answers.push({ number, kind, args })
    }

    #request (request, wait) {
        if (request.state !== "asked")
            return
        const reference = this.#mutexes.get(request.mutex)
        if (wait || reference.free(request.shared))
            return this.#grant(reference.request(request))
        request.state = "busy"
        this.#say(request.number, BUSY)
    }

    #grant (requests) {
        for (const request of requests) {
            request.state = "held"
            request.believed = true
            const token = request.fenced ? ++this.#token : undefined
            this.#answers.push({ number: request.number, kind: GRANTED, args: [ token ], heard: () => this.onheard("granted", request.call) })
        }
    }

    #release (request) {
        if (request.state === "held") {
            const failure = this.#random(10) === 0
            this.#leave(request, "released")
            if (failure)
                this.#say(request.number, FAILED, "ERR_CONNECT", "the server could not be told")
            else
                this.#say(request.number, DONE)
        }
        else
            // The loss is told, or was: that answers the call.
            this.#say(request.number, FAILED, "ERR_NOT_ACQUIRED", "still not acquired")
    }

    #leave (request, state) {
        if ([ "released", "withdrawn", "closed", "lost" ].includes(request.state))
            return
        request.state = state
        request.believed = false
        this.#grant(this.#mutexes.get(request.mutex).leave(request))
    }
}
