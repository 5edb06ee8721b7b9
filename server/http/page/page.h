// The page that people see at "/": a prompt, the answer with each token's experts, and the load. It
// is one HTML file, compiled in, that loads nothing else and holds no secret.
#ifndef ADAMOE_SERVER_HTTP_PAGE_PAGE_H_
#define ADAMOE_SERVER_HTTP_PAGE_PAGE_H_

namespace adamoe {

struct Page {
  const char* html;
  // Content-Security-Policy: its own style and script, named by their hashes, and calls of its own
  // server; nothing else runs or loads.
  const char* policy;
};

// index.html, as cmake/embed_page.cmake has it compiled in.
extern const Page kPage;

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_PAGE_PAGE_H_
