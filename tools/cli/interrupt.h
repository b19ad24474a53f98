// Ctrl-C and SIGTERM: the first one ends the running work cleanly, so that nothing is left behind; a second one kills.
// Process-wide state; signals may come at any time on any thread, the functions are for the main thread.
#pragma once

#include "ocior/session.h"

namespace ocior::cli {

// Called first by main(), before there are threads. `again`: also later signals only end work (a prompt that outlives Ctrl-C).
void catch_signals(bool again = false);

// The signal that came, or 0.
int caught_signal();
void forget_signal();

// Ends with the signal. Pass it to every run.
RunOptions& run_options();

// Readable once a signal came, so that poll() wakes up.
int signal_fd();

// kModelLoadCanceled, when a signal came.
Status interrupted();

}  // namespace ocior::cli
