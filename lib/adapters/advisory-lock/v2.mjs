import advisoryLock from "./v2.js"

export const { strToKey, mutexUrl } = advisoryLock
export default advisoryLock
