-- wrk opens emails of one tenant: a share of the opens among the newest emails, the rest uniformly
-- at random over all. Arguments: emails, how many are the newest, their share, seed; and a file with
-- the path of each email's pixel where that is not the plain one.

dofile((debug.getinfo(1, "S").source:sub(2):gsub("[^/]*$", "")) .. "report.lua")

local emails, newest, share, tail, paths

function init(arguments)
  emails = tonumber(arguments[1])
  newest = tonumber(arguments[2])
  share = tonumber(arguments[3])
  math.randomseed(tonumber(arguments[4]))
  if arguments[5] then
    paths = {}
    for line in io.lines(arguments[5]) do
      paths[#paths + 1] = line
    end
  end
  tail = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
    .. "\r\nUser-Agent: " .. wrk.headers["User-Agent"] .. "\r\n\r\n"
end

function request()
  local email
  if math.random() < share then
    email = emails + 1 - math.random(newest)
  else
    email = math.random(emails)
  end
  return "GET " .. (paths and paths[email] or "/acme/pixel/" .. email .. ".gif") .. tail
end
