# The site of servers in Ruby: the same answers as answers.py gives.
LAST_CHANGED = "Thu, 01 Jan 2026 00:00:00 GMT".freeze
PAGE = ("<!doctype html><title>A page</title>" + "<p>text</p>" * 40).freeze
CHUNKS = ["first " * 50, "second " * 30, "third"].freeze

def whole(status, headers, body)
  [status, headers.merge("content-length" => body.bytesize.to_s), [body]]
end

run(lambda do |env|
  case env["PATH_INFO"]
  when "/form" then whole(200, {}, "thank you\n")
  when "/", "/page.html"
    if env["HTTP_IF_MODIFIED_SINCE"]
      [304, { "last-modified" => LAST_CHANGED }, []]
    else
      whole(200, { "last-modified" => LAST_CHANGED }, PAGE)
    end
  when "/old.html" then whole(302, { "location" => "/page.html" }, "it moved\n")
  when "/empty.txt" then [204, {}, []]
  when "/chunks" then [200, {}, CHUNKS]
  when "/slow"
    sleep 0.3
    whole(200, {}, "thank you\n")
  else whole(404, {}, "nothing here\n")
  end
end)
