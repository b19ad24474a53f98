// Ocior's public C++ API; start here.
//
//   auto session = ocior::Session::load("model.onnx");
//   if (!session.ok()) return report(session.status().message());
//   auto ids = ocior::Value::of<int64_t>({{1, 3}}, {{101, 2054, 102}});
//   auto outputs = session->run({{{"input_ids", *ids}, {"attention_mask", *mask}}});
//
// Errors are values (status.h): nothing here throws, prints or exits. A Session may be run from many threads at once.
#pragma once

#include "ocior/dtype.h"
#include "ocior/session.h"
#include "ocior/status.h"
#include "ocior/value.h"
