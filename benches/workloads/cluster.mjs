// A cluster: the agent is the primary, its workers are measured.
import cluster from "node:cluster"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { connector } from "../harness/connector.mjs"
import { crowd, pairs } from "./remote.mjs"

/** Runs a workload in so many workers at the same time; each gets the arguments and its `id`. The primary is their server. @returns their results */
export async function workers ({ contender, target, count, workload, ids, argument, profile }) {
    cluster.setupPrimary({ exec: fileURLToPath(import.meta.url), serialization: "advanced" })
    const started = Array.from({ length: count }, (_, at) => cluster.fork({ BENCH_TASK: JSON.stringify({ contender, target, workload,
        argument: { ...argument, id: ids[at], profile: profile && (at === 0 ? [ process.pid ] : []) } }) }))
    const said = (worker, name) => new Promise((resolve, reject) => {
        worker.on("message", (message) => message?.bench === name && resolve(message.result))
        worker.on("exit", (code) => reject(new Error(`a worker ended with code ${code}`)))
    })
    const results = started.map((worker) => said(worker, "result"))
    await Promise.all(started.map((worker) => said(worker, "ready")))
    for (const worker of started)
        worker.send({ bench: "go" })
    const all = await Promise.all(results)
    for (const worker of started)
        worker.disconnect()
    return all
}

async function work ({ contender, target, workload, argument }) {
    const client = await (await connector(contender))(target)
    await client.lock(argument.id)
    const go = new Promise((resolve) => process.on("message", (message) => message?.bench === "go" && resolve()))
    process.send({ bench: "ready" })
    await go
    process.send({ bench: "result", result: await { pairs, crowd }[workload]({ client, ...argument }) })
    await once(process, "disconnect")
}

if (cluster.isWorker && process.env.BENCH_TASK)
    await work(JSON.parse(process.env.BENCH_TASK))
