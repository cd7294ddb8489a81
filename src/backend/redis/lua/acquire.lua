-- Takes the lock, or a place in the queue, or says that it is taken.
--
-- KEYS     as in words.lua
-- ARGV[1]  owner     ARGV[2]  mode, x or s     ARGV[3]  attempt, wait, join or try     ARGV[4]  fenced, 1 or 0
-- ARGV[5]  ttl (ms)  ARGV[6]  channel on which the owner's connection listens    ARGV[7]  info (JSON)
-- To wait is to have a place, and to be told of the grant here. To join is the same for an owner that has none yet: the place that it
-- has belongs to a question that was asked later, which came sooner, on another connection.
-- returns  { microseconds of the server's clock, answer }, the answer one of { 'held', token or '-' }, { 'busy' } and what place()
--          gives. Asked again by the same owner it finds the hold or the place that is already there, and renews it.

local owner, mode, attempt, fenced, ttl, channel, info = unpack(ARGV)

local function answer (what)
    tell_first({ [owner] = true })
    return { text(micros), what }
end

local is_next = settle()

if state == 'exclusive' and holder == owner then
    call('PEXPIRE', MAIN, ttl)
    return answer({ 'held', token })
end
if state == 'shared' and call('ZSCORE', READERS, owner) then
    local _, _, _, _, minted = string.match(call('HGET', INFO, owner) or '', ENTRY)
    call('ZADD', READERS, text(now + ttl), owner)
    keep(READERS, tonumber(ttl))
    keep(INFO, tonumber(ttl))
    stretch()
    return answer({ 'held', minted or '-' })
end

local queued = call('ZSCORE', QUEUE, owner)
if not queued and is_next and (state == 'free' or (state == 'shared' and mode == 's')) then
    if mode == 'x' then
        take_exclusive(owner, mint(fenced, micros), ttl, info)
    else
        take_shared(owner, fenced, mint(fenced, micros), ttl, channel, info)
    end
    return answer({ 'held', token })
end
if attempt == 'try' then
    return answer({ 'busy' })
end

if queued and attempt == 'join' then
    return answer(place(owner))
end
if not queued then
    local last = call('ZREVRANGE', QUEUE, 0, 0, 'WITHSCORES')[2]
    call('ZADD', QUEUE, text(tonumber(last or '0') + 1), owner)
end
call('ZADD', BEATS, text(now + ttl), owner)
call('HSET', INFO, owner, table.concat({ mode, fenced, ttl, channel, text(micros), info }, ' '))
for _, key in ipairs({ QUEUE, BEATS, INFO }) do
    keep(key, tonumber(ttl))
end
if state == 'free' or (state == 'shared' and mode == 's') then
    -- It may have been passed over before, while its connection was not there.
    settle()
    if (state == 'exclusive' and holder == owner) or (state == 'shared' and call('ZSCORE', READERS, owner)) then
        return answer({ 'held', token })
    end
end
if state == 'foreign' then
    note_foreign()
end
return answer(place(owner))
