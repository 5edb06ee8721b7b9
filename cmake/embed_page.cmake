# cmake -DPAGE=index.html -DOUT=page.cc -P embed_page.cmake: the page as C++, with the policy that browsers hold it to. The
# page has one <style> and one <script>, without attributes; the policy names both by their SHA-256.

# The text between <tag> and </tag>, to the byte.
function(read_element tag out)
  string(FIND "${page}" "<${tag}>" begin)
  string(FIND "${page}" "<${tag}>" last REVERSE)
  string(FIND "${page}" "</${tag}>" end)
  if(begin EQUAL -1 OR NOT begin EQUAL last OR end LESS begin)
    message(FATAL_ERROR "${PAGE}: there must be one <${tag}>")
  endif()
  string(LENGTH "<${tag}>" length)
  math(EXPR begin "${begin} + ${length}")
  math(EXPR length "${end} - ${begin}")
  string(SUBSTRING "${page}" ${begin} ${length} text)
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

# 'sha256-...' as policies write it: base64 of the hash's 32 bytes.
function(hash_source text out)
  set(alphabet "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  string(SHA256 hex "${text}")
  set(hex "${hex}00")
  set(base64 "")
  foreach(at RANGE 0 60 6)
    string(SUBSTRING "${hex}" ${at} 6 bytes)
    foreach(shift 18 12 6 0)
      math(EXPR index "(0x${bytes} >> ${shift}) & 63")
      string(SUBSTRING "${alphabet}" ${index} 1 digit)
      string(APPEND base64 "${digit}")
    endforeach()
  endforeach()
  string(SUBSTRING "${base64}" 0 43 base64)  # the last one stands for what was added
  set(${out} "'sha256-${base64}='" PARENT_SCOPE)
endfunction()

file(READ "${PAGE}" page)
string(FIND "${page}" ")page\"" closing)
if(NOT closing EQUAL -1)
  message(FATAL_ERROR "${PAGE}: holds )page\", which ends a C++ string here")
endif()
read_element(style style)
read_element(script script)
hash_source("${style}" style_source)
hash_source("${script}" script_source)
string(JOIN "; " policy
  "default-src 'none'" "style-src ${style_source}" "script-src ${script_source}" "connect-src 'self'" "base-uri 'none'"
  "form-action 'none'" "frame-ancestors 'none'")
file(WRITE "${OUT}" "#include \"server/http/page/page.h\"

namespace adamoe {

const Page kPage = {R\"page(${page})page\", \"${policy}\"};

}  // namespace adamoe
")
