// Locks within one process.
import { withAgents } from "../harness/agents.mjs"

const ours = { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" }
const floor = { role: "floor", label: "two awaits", file: "local", name: "floor" }
const peers = [ [ "async-mutex", "asyncMutex" ], [ "async-lock", "asyncLock" ], [ "mutexify", "mutexify" ], [ "await-lock", "awaitLock" ], [ "lock", "lock" ] ]
    .map(([ label, name ]) => ({ role: "peer", label, file: "local", name }))

/** lock lets the next in by setImmediate, one each turn of the event loop: fewer pairs are enough. */
const slow = ({ name }) => name === "lock"

const rate = async (contender, target, workload, argument) => {
    const { pair } = await withAgents(1, contender, target, (agent) => agent.call(workload, argument))
    return { perSecond: 1e9 / pair }
}

const perSecond = (goals) => [ { key: "perSecond", title: "pairs", unit: "/s", better: "higher", goals } ]

export const group = {
    name: "spm",
    title: "One process (spm)",
    start: async () => ({ target: { url: "spm:{id}" }, stop: async () => {} }),
    scenarios: [
        {
            name: "pair", title: "Uncontended pair",
            contenders: [ ours, floor, ...peers ],
            metrics: perSecond({ floor: 0.7, peers: true }),
            run: (contender, target, { quick }) => rate(contender, target, "burst", { count: quick ? 300_000 : 1_500_000 })
        },
        {
            name: "waiters", title: "1000 waiters",
            contenders: [ ours, floor, ...peers ],
            metrics: perSecond({ floor: 0.6, peers: true }),
            run: (contender, target, { quick }) =>
                rate(contender, target, "waiters", { callers: 1000, count: slow(contender) ? 40_000 : quick ? 200_000 : 1_000_000 })
        },
        {
            name: "threads", title: "Hand-over between worker threads",
            contenders: [ ours, { role: "floor", label: "MessagePort", file: "local", name: "tokenByPort" } ],
            metrics: [
                { key: "p50", title: "p50", unit: "ns", better: "lower", goals: { floor: 1.3 } },
                { key: "p99", title: "p99", unit: "ns", better: "lower", draw: false }
            ],
            run: (contender, target, { quick }) =>
                withAgents(1, contender, target, (agent) => agent.call("threads", { count: quick ? 10_000 : 40_000 }))
        }
    ]
}
