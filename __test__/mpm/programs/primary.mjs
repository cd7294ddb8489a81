// A cluster primary that does what it is told, and passes on what its workers are told. Argument (JSON): { load, settings }
import cluster from "node:cluster"
import { fileURLToPath } from "node:url"
import { actor } from "./actor.mjs"

const { load, settings } = JSON.parse(process.argv[2])
const act = actor(async () => (await import("../../../index.mjs")).default)
if (load)
    await import("../../../index.mjs")
cluster.setupPrimary({ ...settings, silent: false })

const told = new Map()
const strangers = []
cluster.on("message", (_worker, message) => message.call === undefined && strangers.push(message))
cluster.on("message", (worker, answer) => told.get(`${worker.id} ${answer.call}`)?.(answer))
cluster.on("exit", (worker, code, signal) => process.send({ name: `exit ${worker.id}`, code, signal }))

const own = {
    async fork (program) {
        cluster.setupPrimary({ exec: fileURLToPath(new URL(program, import.meta.url)) })
        const worker = cluster.fork()
        // What is sent before the worker listens is lost.
        await new Promise((resolve) => told.set(`${worker.id} ready`, resolve))
        return { number: worker.id, pid: worker.process.pid }
    },
    strangers: () => strangers,
    listeners: (number) => [ "internalMessage", "disconnect", "exit" ].map((event) => cluster.workers[number].process.listenerCount(event))
}

process.on("message", async (order) => {
    const { call, to, deed, args } = order
    if (to === 0) {
        process.send({ name: call, ...(deed in own ? { result: await own[deed](...args) } : await act(order)) })
        return
    }
    told.set(`${to} ${call}`, (answer) => process.send({ name: call, ...answer }))
    cluster.workers[to].send({ call, deed, args }, () => {})
})
process.send("ready")
