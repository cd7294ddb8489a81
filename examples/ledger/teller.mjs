// One teller: a worker process of the cluster, or a worker thread.
import cluster from "node:cluster"
import { isMainThread, parentPort, workerData } from "node:worker_threads"
import Mutex from "../../index.mjs"
import { work } from "./ledger.mjs"

async function serve ({ file, url, number, transfers }) {
    const mutex = url === undefined ? undefined : new Mutex(url)
    await mutex?.open()
    const visits = await work(file, number, transfers, mutex)
    await mutex?.close()
    return visits
}

if (isMainThread) {
    const visits = await serve(JSON.parse(process.env.LEDGER_TASK))
    process.send(visits, () => cluster.worker.disconnect())
}
else
    parentPort.postMessage(await serve(workerData))
