// Stands where the FakeServer stands, for locks whose coordinator is real and answers by itself: what it grants is seen where the request is told of it.
import { createRequire } from "node:module"
import { History } from "../support/history.mjs"

const { Request } = createRequire(import.meta.url)("../../lib/request.js")

export class LiveServer {
    onrequest = () => undefined
    onheard = () => {}
    answersByItself = true
    patience = Infinity
    /** Most steps wait for what the others do. */
    pace = 1
    /** Nothing that could be left here is known here: the coordinator is asked at the end. */
    isIdle = true
    isFree = true
    history = new History()
    #name

    /** @param {string} name of this thread, the only one of that name that walks */
    constructor (name) {
        this.#name = name
        const { granted } = Request.prototype, server = this
        Request.prototype.granted = function (...args) {
            // Before the caller can hear of it, but not for a request that is over already.
            const isGranted = granted.apply(this, args)
            if (isGranted)
                server.onheard("granted", this.context.runInAsyncScope(() => server.onrequest()))
            return isGranted
        }
    }

    begin () {}
    step () {}
    lose () {}

    believed (call) {
        const owner = this.#owner(call)
        this.history.ask(call.object.id, owner, { mode: call.shared ? "shared" : "exclusive" })
        this.history.grant(call.object.id, owner, { token: call.handle?.token })
    }

    doubted (call) {
        this.history.release(call.object.id, this.#owner(call))
    }

    #owner (call) {
        call.owner ??= `${this.#name}/${LiveServer.#calls++}`
        return call.owner
    }

    static #calls = 0
}
