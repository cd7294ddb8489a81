"use strict"

const { AsyncResource, createHook, executionAsyncResource } = require("node:async_hooks")
const { MutexError } = require("./errors.js")
const { setImmediate } = require("./timing.js")

/*
 * Which asynchronous flow holds what, for the option `detectDeadlocks`: a heuristic, which would rather miss a deadlock than refuse a
 * correct program.
 *
 * A flow gets to hold a lock when it goes on behind `await mutex.acquire()`, not when it calls it: whoever only started
 * that flow holds nothing. Node shows this moment as the creation of the promise by which the flow waits for ours. What runs in that
 * promise's context, and in the promises that come of it, belongs to the flow; timers, sockets and the like do not, as nobody need wait
 * for them.
 *
 * A request of such a flow for what it holds is suspicious. It is a deadlock if the flow then does nothing but wait for it: if the last
 * thing that it did in this step was to wait for the request's promise, and outside of that for the calls in which this happened; if
 * nothing of the flow has run since; and if no timer or the like, started by the flow, is left that could release.
 */

/** Our own resources, which are no activity of the flow. */
const OWN = "IPC_MUTEX"

/** By asynchronous resource: the innermost request that its flow has behind it, and what was around that. */
const flows = new WeakMap()
/** The numbers of promises, and the requests that promises of some numbers stand for. */
const numbers = new WeakMap(), promised = new Map()
/** The flows that started what is no promise and has not ended, by its number. */
const started = new Map()
/** Suspicions of the step that runs. */
let fresh = []
/** Suspicions of flows that only wait. */
const waiting = new Set()
/** Whether a request is being asked: what begins then is no activity of the flow either. */
let isAsking = false
/** The number of the last resource of all, and of the last one before this step. */
let newest = 0, before = 0

/** Whether so and so belongs to the flow that has this request behind it. */
function belongs (flow, request) {
    for (let each = flow; each !== undefined; each = each.outer)
        if (each.request === request)
            return true
    return false
}

const hook = createHook({
    init (number, type, trigger, resource) {
        newest = number
        if (type === "PROMISE")
            numbers.set(resource, number)
        if (type === OWN || isAsking)
            return
        const outer = flows.get(executionAsyncResource())
        if (type !== "PROMISE") {
            if (outer !== undefined)
                start(number, outer)
        }
        else {
            const request = promised.get(trigger)
            if (request !== undefined)
                flows.set(resource, { request, outer })
            else if (outer !== undefined)
                flows.set(resource, outer)
        }
        for (const suspicion of fresh)
            suspicion.goesOn(number, trigger)
    },
    before () {
        step()
        before = newest
        const flow = flows.get(executionAsyncResource())
        if (flow !== undefined)
            for (const suspicion of waiting)
                if (belongs(flow, suspicion.holder))
                    waiting.delete(suspicion)
    },
    after: step,
    destroy (number) {
        const flow = started.get(number)
        if (flow === undefined)
            return
        started.delete(number)
        for (let each = flow; each !== undefined; each = each.outer)
            each.request.active--
        later()
    }
})

function start (number, flow) {
    started.set(number, flow)
    for (let each = flow; each !== undefined; each = each.outer)
        each.request.active++
}

/** The step of the program is over. */
function step () {
    if (fresh.length === 0)
        return
    for (const suspicion of fresh)
        if (suspicion.waits)
            waiting.add(suspicion)
    fresh = []
    later()
}

let isComing = false

/** Judges when all that was to run at once has run. */
function later () {
    if (isComing || waiting.size === 0)
        return
    isComing = true
    hookless.runInAsyncScope(setImmediate, undefined, judge)
}

/** Not of any flow. */
const hookless = new AsyncResource(OWN, { requireManualDestroy: true })

function judge () {
    isComing = false
    step()
    for (const suspicion of [ ...waiting ])
        suspicion.judge()
}

/** A flow asks for what it holds. */
class Suspicion {
    /** Whether the last thing that the flow did was to wait for the request. */
    waits = false
    #asked
    #since = before
    /** The numbers of the promises that depend on the request's; it is the first. */
    #dependent = new Set()
    /** When the first one was waited for. */
    #firstWait = 0

    constructor (asked, holder) {
        this.#asked = asked
        this.holder = holder
    }

    promised (number) {
        this.#dependent.add(number)
    }

    goesOn (number, trigger) {
        // A caller also waits for the call in which this happened: its promise is of this step, and older than the first wait.
        this.waits = this.#dependent.has(trigger) || this.waits && trigger > this.#since && trigger < this.#firstWait
        if (!this.waits)
            return
        this.#dependent.add(number)
        this.#firstWait ||= number
    }

    judge () {
        const { flow } = this.#asked
        if (!flow.isAsked || !this.holder.isHeld)
            return waiting.delete(this)
        if (this.holder.active > 0)
            return
        waiting.delete(this)
        this.#asked.withdraw(new MutexError("ERR_DEADLOCK", `lock "${flow.id}" is held by the caller itself, which acquired it ` +
            `at ${this.holder.place}; acquiring it again at ${flow.place} would wait for ever`))
    }
}

/** The first line of the caller's stack that is not the package's own. */
function place () {
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 30
    const { stack } = new Error()
    Error.stackTraceLimit = stackTraceLimit
    const line = stack.split("\n").slice(1).find((text) => !text.includes(__dirname))
    return line === undefined ? "an unknown place" : line.trim().replace(/^at (?:async )?/, "")
}

/** Why the option cannot be had here; undefined if it can. */
function obstacle () {
    const { bun, deno } = process.versions
    if (bun !== undefined || deno !== undefined)
        return `${bun !== undefined ? "Bun" : "Deno"} does not show how promises depend on each other`
    return Object.isFrozen(Error) ? "with --frozen-intrinsics no stack can be read" : undefined
}

/** How many mutexes that use it are open. */
let users = 0

/** Finds requests that would wait for themselves for ever. */
class Detector {
    /** A mutex opens. */
    enter () {
        if (users++ === 0)
            hook.enable()
    }

    /** It has closed. Behind the last one the program's promises cost what they did before. */
    leave () {
        if (--users > 0)
            return
        hook.disable()
        started.clear()
        waiting.clear()
        fresh = []
    }

    /** A request is about to be asked. */
    asked (request) {
        isAsking = true
        const { session: { url, id }, shared } = request
        request.flow = { url, id, shared, place: place(), isAsked: true, isHeld: false, active: 0, number: 0, suspicion: undefined }
        if (!request.isPatient)
            return
        for (let flow = flows.get(executionAsyncResource()); flow !== undefined; flow = flow.outer) {
            const holder = flow.request
            if (holder.isHeld && holder.url === url && !(holder.shared && shared)) {
                request.flow.suspicion = new Suspicion(request, holder)
                return
            }
        }
    }

    /** The promise that the caller gets: who waits for it goes on as the holder. */
    promised ({ flow }, promise) {
        isAsking = false
        const number = numbers.get(promise)
        if (number === undefined || !flow?.isAsked && !flow?.isHeld)
            return
        flow.number = number
        promised.set(number, flow)
        if (flow.isAsked && flow.suspicion !== undefined) {
            flow.suspicion.promised(number)
            fresh.push(flow.suspicion)
        }
    }

    granted ({ flow }, hold) {
        flow.isAsked = false
        flow.isHeld = true
        hold.flow = flow
    }

    /** The request is over without a hold. */
    refused ({ flow }) {
        if (flow === undefined)
            return
        flow.isAsked = false
        // What still waits for the promise goes on without a lock.
        promised.delete(flow.number)
    }

    ended ({ flow }) {
        if (flow === undefined)
            return
        flow.isHeld = false
        promised.delete(flow.number)
    }
}

let only

/**
 * @returns {Detector} the one of this thread
 * @throws {TypeError} where the runtime cannot do it
 */
function detector () {
    const why = obstacle()
    if (why !== undefined) {
        const error = new TypeError(`the option "detectDeadlocks" is not available: ${why}`)
        error.code = "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM"
        throw error
    }
    return only ??= new Detector()
}

module.exports = { detector }
