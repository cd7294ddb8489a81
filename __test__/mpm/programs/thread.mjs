// A worker thread that does what it is told.
import { parentPort } from "node:worker_threads"
import { actor } from "./actor.mjs"

const act = actor(async () => (await import("../../../index.mjs")).default)
parentPort.on("message", async (order) => parentPort.postMessage(await act(order)))
