// time limit: 600 s
import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { redis } from "../support/servers.mjs"
import { PATIENT } from "../conformance/world.mjs"
import { suite } from "./suite.mjs"

watchLeaks({ grace: 120_000 })
const server = await redis(after, { password: true })
suite({ name: "redis", url: (id, params) => server.url(id, { ...PATIENT, ...params }), steals: true, listsAll: true })
