// One PE of a row-stationary array: a one-dimensional convolution of p filters and q channels. p*q*S filter words stay
// in their spad, a window of q*S ifmap words slides over one row, and each of F output columns takes p psums in and
// gives p psums out.
//
// Words come in the order they are used: filters by tap, channel, filter; ifmap by column, channel; psums by column,
// filter. A step reads the spads in cycle t, is multiplied in t+1 and added to its psum in t+2. Finished psums wait in
// the psum spad for the incoming ones, so the exchange runs beside the next column; a step that would overwrite one
// holds up the pipeline. Ifmap words are fetched ahead into slots whose words no later column needs; those between
// windows that do not touch (U > S) are taken and dropped. psum_in_ready follows psum_out_ready within the cycle.
//
// With all streams ready a row takes p*q*S + q*S + F*p*q*S + 5 cycles, more only where U > p*S.
//
// A PE with ACC < 2*W shifts every product right by start_shift and saturates every sum; a wider one is exact.
// 1 <= p <= PS_SPAD, q*S <= IF_SPAD, p*q*S <= W_SPAD; U and F are at least 1.
module eyeriss_pe #(
    parameter integer W = 16,
    parameter integer ACC = 48,
    parameter integer IF_SPAD = 12,
    parameter integer W_SPAD = 224,
    parameter integer PS_SPAD = 24
) (
    input  wire                              clk,
    input  wire                              rst,

    input  wire                              start_valid,
    output wire                              start_ready,
    input  wire        [$clog2(PS_SPAD+1)-1:0] start_p,
    input  wire        [$clog2(IF_SPAD+1)-1:0] start_q,
    input  wire        [$clog2(IF_SPAD+1)-1:0] start_s,
    input  wire        [$clog2(IF_SPAD+1)-1:0] start_u,
    input  wire        [15:0]                start_f,
    input  wire        [4:0]                 start_shift,

    input  wire                              filter_valid,
    output wire                              filter_ready,
    input  wire        [W-1:0]               filter_data,

    input  wire                              ifmap_valid,
    output wire                              ifmap_ready,
    input  wire        [W-1:0]               ifmap_data,

    input  wire                              psum_in_valid,
    output wire                              psum_in_ready,
    input  wire        [ACC-1:0]             psum_in_data,

    output reg                               psum_out_valid,
    input  wire                              psum_out_ready,
    output reg         [ACC-1:0]             psum_out_data,

    output wire                              filter_read,
    output wire                              mac,
    output wire                              gated,

    output reg         [31:0]                cnt_mac,
    output reg         [31:0]                cnt_mac_gated,
    output reg         [31:0]                cnt_ifmap_read,
    output reg         [31:0]                cnt_ifmap_write,
    output reg         [31:0]                cnt_filter_read,
    output reg         [31:0]                cnt_filter_write,
    output reg         [31:0]                cnt_psum_read,
    output reg         [31:0]                cnt_psum_write,
    output reg         [31:0]                cnt_filter_stall,
    output reg         [31:0]                cnt_ifmap_stall,
    output reg         [31:0]                cnt_psum_in_stall,
    output reg         [31:0]                cnt_psum_out_stall,
    output reg         [31:0]                cnt_cycles
);
    localparam PW = $clog2(PS_SPAD+1);           // bits of p
    localparam CW = $clog2(IF_SPAD+1);           // bits of q, S, U and of a number of ifmap words
    localparam PA = $clog2(PS_SPAD);
    localparam IA = $clog2(IF_SPAD);
    localparam WA = $clog2(W_SPAD);
    localparam SUM = (ACC > 2*W ? ACC : 2*W) + 1;   // bits that hold any sum of a psum and a product or psum
    localparam NARROW = ACC < 2*W;

    localparam [2:0] IDLE = 3'd0, LOAD = 3'd1, FILL = 3'd2, RUN = 3'd3, DRAIN = 3'd4;

    reg [W-1:0]       filter_spad [0:W_SPAD-1];
    reg [W-1:0]       ifmap_spad  [0:IF_SPAD-1];
    reg [ACC-1:0]     psum_spad   [0:PS_SPAD-1];
    reg [IF_SPAD-1:0] zero;                       // which ifmap words are zero
    reg [PS_SPAD-1:0] finished;                   // which psums wait for their exchange

    reg [2:0]         state;
    reg [PW-1:0]      p_last;
    reg [CW-1:0]      q_last, s_last, u_last;
    reg [4:0]         shift;

    // Steps: filters are loaded in the order in which every column uses them.
    reg [PW-1:0]      f;
    reg [CW-1:0]      c, s;
    reg [WA-1:0]      address;
    reg [15:0]        columns;                    // that have not begun their last step

    // Ring of ifmap words: `kept` words from `oldest` on are needed again by the next column, `ahead` words from
    // `slot` on have not met all filters of this column, `tail` is where the next word goes.
    reg [IA-1:0]      oldest, slot, tail;
    reg [CW-1:0]      kept, ahead;
    reg [CW-1:0]      in_c, in_s;
    reg [15:0]        in_columns;                 // whose words have not all come

    // One set of registers for each of the two cycles after a step has read the spads.
    reg               valid1, valid2, gated1, gated2, first1, first2, last1, last2;
    reg [PW-1:0]      f1, f2;
    reg signed [W-1:0]   word1, weight1;
    reg signed [2*W-1:0] product2;
    reg [PW-1:0]      turn;                       // the filter whose psum is exchanged next

    wire              starting  = start_valid && start_ready;
    wire              loading   = filter_valid && filter_ready;
    wire              room      = !psum_out_valid || psum_out_ready;
    wire              exchange  = psum_in_ready && psum_in_valid;
    wire              hold      = valid2 && first2 && finished[f2[PA-1:0]] && !(exchange && turn == f2);
    wire              issue     = state == RUN && ahead != {CW{1'b0}} && !hold;
    wire              add       = valid2 && !hold;

    wire              last_f    = f == p_last;
    wire              last_tap  = c == q_last && s == s_last;
    wire              next      = issue && last_f;          // the ifmap word has met all filters
    wire              again     = s > u_last;               // and the next column needs it too
    wire              next_column = next && last_tap;
    wire [CW-1:0]     kept_then = kept + {{(CW-1){1'b0}}, next && again};
    wire [IA-1:0]     oldest_then = next && !again ? after(oldest) : oldest;

    wire              taking    = ifmap_valid && ifmap_ready;
    wire              skip      = state == RUN && {1'b0, in_s} + {1'b0, s_last} < {1'b0, u_last};
    wire              write     = taking && !skip;
    wire              in_last_c = in_c == q_last;
    wire              in_last   = in_last_c && in_s == (state == FILL ? s_last : u_last);

    wire signed [2*W-1:0] exact = word1 * weight1;
    wire [ACC-1:0]    psum      = first2 ? {ACC{1'b0}} : psum_spad[f2[PA-1:0]];
    wire [ACC-1:0]    mine      = psum_spad[turn[PA-1:0]];

    assign start_ready   = state == IDLE;
    assign filter_ready  = state == LOAD;
    assign ifmap_ready   = (state == FILL || state == RUN) && in_columns != 16'd0
                           && (skip || {1'b0, kept} + {1'b0, ahead} != IF_SPAD[CW:0]);
    assign psum_in_ready = finished[turn[PA-1:0]] && room;
    assign filter_read   = issue && !zero[slot];
    assign mac           = valid1 && !gated1 && !hold;
    assign gated         = valid1 && gated1 && !hold;

    function [IA-1:0] after;
        input [IA-1:0] at;
        after = {1'b0, at} + 1'b1 == IF_SPAD[IA:0] ? {IA{1'b0}} : at + 1'b1;
    endfunction

    // The lowest bits of a sum; a narrow PE takes the nearest psum.
    function [ACC-1:0] clamp;
        input [SUM-1:0] sum;
        if (NARROW && sum[SUM-1:ACC-1] != {(SUM-ACC+1){sum[SUM-1]}})
            clamp = {sum[SUM-1], {(ACC-1){!sum[SUM-1]}}};
        else
            clamp = sum[ACC-1:0];
    endfunction

    function [SUM-1:0] wide;
        input [ACC-1:0] narrow;
        wide = {{(SUM-ACC){narrow[ACC-1]}}, narrow};
    endfunction

    // Spads. Only what a step asks for is read; a gated step leaves the weight before it where it was.
    always @(posedge clk) begin
        if (loading) filter_spad[address] <= filter_data;
        if (filter_read) weight1 <= filter_spad[address];
        if (write) ifmap_spad[tail] <= ifmap_data;
        if (issue) word1 <= ifmap_spad[slot];
        if (add) psum_spad[f2[PA-1:0]] <= clamp(wide(psum)
            + (gated2 ? {SUM{1'b0}} : {{(SUM-2*W){product2[2*W-1]}}, product2}));
    end

    always @(posedge clk) begin
        if (rst) begin
            state <= IDLE;
            f <= {PW{1'b0}};
            c <= {CW{1'b0}};
            s <= {CW{1'b0}};
            address <= {WA{1'b0}};
        end else begin
            case (state)
                IDLE: if (starting) state <= LOAD;
                LOAD: if (loading && last_f && last_tap) state <= FILL;
                FILL: if (taking && in_last) state <= RUN;
                RUN: if (next_column && columns == 16'd1) state <= DRAIN;
                default: if (!valid1 && !valid2 && finished == {PS_SPAD{1'b0}} && psum_out_valid && psum_out_ready)
                    state <= IDLE;
            endcase
            if (starting) begin
                p_last <= start_p - 1'b1;
                q_last <= start_q - 1'b1;
                s_last <= start_s - 1'b1;
                u_last <= start_u - 1'b1;
                shift <= start_shift;
                columns <= start_f;
            end else if (next_column) begin
                columns <= columns - 16'd1;
            end
            if (loading || issue) begin
                f <= last_f ? {PW{1'b0}} : f + 1'b1;
                if (last_f) c <= c == q_last ? {CW{1'b0}} : c + 1'b1;
                if (last_f && c == q_last) s <= s == s_last ? {CW{1'b0}} : s + 1'b1;
                address <= last_f && last_tap ? {WA{1'b0}} : address + 1'b1;
            end
        end
    end

    // Ifmap: words in, and the window moves on.
    always @(posedge clk) begin
        if (rst || starting) begin
            oldest <= {IA{1'b0}};
            slot <= {IA{1'b0}};
            tail <= {IA{1'b0}};
            kept <= {CW{1'b0}};
            ahead <= {CW{1'b0}};
            in_c <= {CW{1'b0}};
            in_s <= {CW{1'b0}};
            in_columns <= rst ? 16'd0 : start_f;
        end else begin
            oldest <= oldest_then;
            if (next) slot <= last_tap ? oldest_then : after(slot);
            kept <= next_column ? {CW{1'b0}} : kept_then;
            ahead <= ahead + {{(CW-1){1'b0}}, write} - {{(CW-1){1'b0}}, next}
                + (next_column ? kept_then : {CW{1'b0}});
            if (write) tail <= after(tail);
            if (taking) begin
                in_c <= in_last_c ? {CW{1'b0}} : in_c + 1'b1;
                if (in_last_c) in_s <= in_last ? {CW{1'b0}} : in_s + 1'b1;
                if (in_last) in_columns <= in_columns - 16'd1;
            end
        end
        if (rst) zero <= {IF_SPAD{1'b0}};
        else if (write) zero[tail] <= ifmap_data == {W{1'b0}};
    end

    // Multiply, accumulate, exchange.
    always @(posedge clk) begin
        if (rst) begin
            valid1 <= 1'b0;
            valid2 <= 1'b0;
            finished <= {PS_SPAD{1'b0}};
            turn <= {PW{1'b0}};
            psum_out_valid <= 1'b0;
            psum_out_data <= {ACC{1'b0}};
        end else begin
            if (!hold) begin
                valid1 <= issue;
                valid2 <= valid1;
            end
            if (exchange) begin
                finished[turn[PA-1:0]] <= 1'b0;
                turn <= turn == p_last ? {PW{1'b0}} : turn + 1'b1;
                psum_out_data <= clamp(wide(mine) + wide(psum_in_data));
            end
            if (room) psum_out_valid <= exchange;
            if (add && last2) finished[f2[PA-1:0]] <= 1'b1;
        end
        if (issue) begin
            gated1 <= zero[slot];
            first1 <= c == {CW{1'b0}} && s == {CW{1'b0}};
            last1 <= last_tap;
            f1 <= f;
        end
        if (valid1 && !hold) begin
            gated2 <= gated1;
            first2 <= first1;
            last2 <= last1;
            f2 <= f1;
        end
        if (mac) product2 <= NARROW ? exact >>> shift : exact;
    end

    always @(posedge clk) begin
        if (rst) begin
            cnt_mac <= 32'd0;
            cnt_mac_gated <= 32'd0;
            cnt_ifmap_read <= 32'd0;
            cnt_ifmap_write <= 32'd0;
            cnt_filter_read <= 32'd0;
            cnt_filter_write <= 32'd0;
            cnt_psum_read <= 32'd0;
            cnt_psum_write <= 32'd0;
            cnt_filter_stall <= 32'd0;
            cnt_ifmap_stall <= 32'd0;
            cnt_psum_in_stall <= 32'd0;
            cnt_psum_out_stall <= 32'd0;
            cnt_cycles <= 32'd0;
        end else begin
            if (mac) cnt_mac <= cnt_mac + 32'd1;
            if (gated) cnt_mac_gated <= cnt_mac_gated + 32'd1;
            if (issue) cnt_ifmap_read <= cnt_ifmap_read + 32'd1;
            if (write) cnt_ifmap_write <= cnt_ifmap_write + 32'd1;
            if (filter_read) cnt_filter_read <= cnt_filter_read + 32'd1;
            if (loading) cnt_filter_write <= cnt_filter_write + 32'd1;
            cnt_psum_read <= cnt_psum_read + {31'd0, add && !first2} + {31'd0, exchange};
            if (add) cnt_psum_write <= cnt_psum_write + 32'd1;
            if (filter_ready && !filter_valid) cnt_filter_stall <= cnt_filter_stall + 32'd1;
            if (state == FILL ? !ifmap_valid : state == RUN && ahead == {CW{1'b0}} && !hold)
                cnt_ifmap_stall <= cnt_ifmap_stall + 32'd1;
            if (psum_in_ready && !psum_in_valid) cnt_psum_in_stall <= cnt_psum_in_stall + 32'd1;
            if (!room) cnt_psum_out_stall <= cnt_psum_out_stall + 32'd1;
            if (starting || state != IDLE) cnt_cycles <= cnt_cycles + 32'd1;
        end
    end
endmodule
