// One PE of SnaPEA: LANES windows share one stream of weights and indices. A lane stops as soon as its sum falls below
// zero in the negative part of the kernel, or below a threshold after the speculation part; the group of windows ends
// when its last lane stops.
//
// A step is issued in cycle t; weight and index are registers in t+1, inputs arrive in t+2, the cycle of the MAC; the
// sum is a register in t+3, where the PAU looks at it and gates the MAC of that same cycle. The environment holds
// rd_data while rd_valid is 0. A result that is not taken (out_ready = 0) holds up everything.
module snapea_pe #(
    parameter integer LANES = 4,
    parameter integer W = 16,
    parameter integer WACC = 48,
    parameter integer WI = 16,
    parameter integer KMAX = 256
) (
    input  wire                              clk,
    input  wire                              rst,

    input  wire                              cfg_we,
    input  wire        [$clog2(KMAX)-1:0]    cfg_addr,
    input  wire        [W-1:0]               cfg_weight,
    input  wire        [WI-1:0]              cfg_index,

    input  wire                              start_valid,
    output wire                              start_ready,
    input  wire        [$clog2(KMAX+1)-1:0]  start_len,
    input  wire        [$clog2(KMAX+1)-1:0]  start_neg_at,
    input  wire                              start_predict,
    input  wire        [$clog2(KMAX+1)-1:0]  start_n,
    input  wire signed [WACC-1:0]            start_th,
    input  wire signed [WACC-1:0]            start_bias,
    input  wire        [LANES-1:0]           start_mask,

    output wire                              rd_valid,
    output wire        [WI-1:0]              rd_index,
    input  wire        [LANES*W-1:0]         rd_data,

    output reg         [LANES-1:0]           terminate,

    output wire                              out_valid,
    input  wire                              out_ready,
    output reg         [LANES*WACC-1:0]      out_psum,
    output wire        [LANES-1:0]           out_term,
    output wire        [LANES*$clog2(KMAX+1)-1:0] out_op,
    output wire        [31:0]                out_cycles,

    output reg         [31:0]                cnt_mac,
    output reg         [31:0]                cnt_wi_read,
    output reg         [31:0]                cnt_in_read,
    output reg         [31:0]                cnt_pau_check,
    output reg         [31:0]                cnt_cycles
);
    localparam KW = $clog2(KMAX+1);
    localparam KA = $clog2(KMAX);

    reg [W-1:0]  weight_buffer [0:KMAX-1];
    reg [WI-1:0] index_buffer  [0:KMAX-1];

    // Issue: the group whose steps go out, or the one that starts in this cycle.
    reg                    busy;
    reg  [KW-1:0]          k0, len0, neg_at0, n0;
    reg                    predict0;
    reg signed [WACC-1:0]  th0, bias0;
    reg  [LANES-1:0]       mask0;
    reg  [1:0]             tag0;
    reg  [31:0]            born0, now;

    wire                   stall    = out_valid && !out_ready;
    wire                   starting = start_valid && start_ready;
    wire                   issue    = (busy && !stall) || starting;
    wire [KW-1:0]          k        = busy ? k0 : {KW{1'b0}};
    wire [KW-1:0]          len      = busy ? len0 : start_len;
    wire [KW-1:0]          neg_at   = busy ? neg_at0 : start_neg_at;
    wire [KW-1:0]          n        = busy ? n0 : start_n;
    wire                   predict  = busy ? predict0 : start_predict;
    wire signed [WACC-1:0] th       = busy ? th0 : start_th;
    wire signed [WACC-1:0] bias     = busy ? bias0 : start_bias;
    wire [LANES-1:0]       mask     = busy ? mask0 : start_mask;
    wire [1:0]             tag      = busy ? tag0 : tag0 + 2'd1;
    wire [31:0]            born     = busy ? born0 : now;
    wire                   is_last  = k + 1'b1 == len;

    // One set of registers for each of the three cycles after the issue.
    reg                    valid1, valid2, valid3;
    reg                    first1, first2;
    reg                    last1, last2, last3;
    reg                    sign1, sign2, sign3;          // the sign of the sum counts from here on
    reg                    guess1, guess2, guess3;       // the sum is compared with the threshold
    reg  [1:0]             tag1, tag2, tag3;
    reg  [31:0]            born1, born2, born3;
    reg signed [WACC-1:0]  bias1, bias2, th1, th2, th3;
    reg  [LANES-1:0]       mask1, mask2;
    reg  [W-1:0]           weight1, weight2;
    reg  [WI-1:0]          index1;

    // Lanes: sums, MACs done, and which of them still run or have been stopped.
    reg  [LANES*WACC-1:0]  acc;
    reg  [LANES*KW-1:0]    op;
    reg  [LANES-1:0]       running, stopped;
    integer                l, i;

    wire [LANES-1:0]       alive     = running & ~terminate;
    wire [LANES-1:0]       enable    = !valid2 ? {LANES{1'b0}} : first2 ? mask2 : alive;
    wire                   early_end = valid3 && !last3 && alive == {LANES{1'b0}};

    assign start_ready = !busy && !stall;
    assign rd_valid    = valid1 && !stall;
    assign rd_index    = index1;
    assign out_valid   = valid3 && (last3 || alive == {LANES{1'b0}});
    assign out_term    = stopped | terminate;
    assign out_op      = op;
    assign out_cycles  = out_valid ? now - born3 + 32'd1 : 32'd0;

    function [WACC-1:0] product;
        input signed [W-1:0] weight;
        input        [W-1:0] word;
        product = {{(WACC-W){weight[W-1]}}, weight} * {{(WACC-W){1'b0}}, word};
    endfunction

    function [31:0] count;
        input [LANES-1:0] bits;
        integer b;
        begin
            count = 32'd0;
            for (b = 0; b < LANES; b = b + 1) count = count + {31'd0, bits[b]};
        end
    endfunction

    // PAU of every lane: on the register of the sum, within the cycle. The result is what a lane has after ReLU.
    always @* begin
        terminate = {LANES{1'b0}};
        out_psum = {LANES*WACC{1'b0}};
        for (l = 0; l < LANES; l = l + 1) begin
            if (running[l]) begin
                terminate[l] = valid3 && ((sign3 && acc[l*WACC + WACC-1])
                    || (guess3 && $signed(acc[l*WACC +: WACC]) < th3));
                if (!terminate[l] && !acc[l*WACC + WACC-1])
                    out_psum[l*WACC +: WACC] = acc[l*WACC +: WACC];
            end
        end
    end

    always @(posedge clk) begin
        if (cfg_we) begin
            weight_buffer[cfg_addr] <= cfg_weight;
            index_buffer[cfg_addr] <= cfg_index;
        end
    end

    always @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
            tag0 <= 2'd0;
            now <= 32'd0;
            valid1 <= 1'b0;
            valid2 <= 1'b0;
            valid3 <= 1'b0;
            running <= {LANES{1'b0}};
            stopped <= {LANES{1'b0}};
            index1 <= {WI{1'b0}};
            op <= {(LANES*KW){1'b0}};
            cnt_mac <= 32'd0;
            cnt_wi_read <= 32'd0;
            cnt_in_read <= 32'd0;
            cnt_pau_check <= 32'd0;
            cnt_cycles <= 32'd0;
        end else begin
            now <= now + 32'd1;
            if (issue || valid1 || valid2 || valid3) cnt_cycles <= cnt_cycles + 32'd1;
        end
        if (!rst && !stall) begin
            // issue
            if (issue) begin
                weight1 <= weight_buffer[k[KA-1:0]];
                index1 <= index_buffer[k[KA-1:0]];
                busy <= !is_last && !(early_end && tag == tag3);
                k0 <= k + 1'b1;
                cnt_wi_read <= cnt_wi_read + 32'd1;
            end
            if (starting) begin
                len0 <= start_len;
                neg_at0 <= start_neg_at;
                n0 <= start_n;
                predict0 <= start_predict;
                th0 <= start_th;
                bias0 <= start_bias;
                mask0 <= start_mask;
                tag0 <= tag;
                born0 <= now;
            end
            valid1 <= issue && !(early_end && tag == tag3);
            first1 <= !busy;
            last1 <= is_last;
            sign1 <= k >= neg_at;
            guess1 <= predict && k + 1'b1 == n;
            tag1 <= tag;
            born1 <= born;
            bias1 <= bias;
            th1 <= th;
            mask1 <= mask;
            // inputs are read
            if (valid1) cnt_in_read <= cnt_in_read + 32'd1;
            valid2 <= valid1 && !(early_end && tag1 == tag3);
            first2 <= first1;
            last2 <= last1;
            sign2 <= sign1;
            guess2 <= guess1;
            tag2 <= tag1;
            born2 <= born1;
            bias2 <= bias1;
            th2 <= th1;
            mask2 <= mask1;
            weight2 <= weight1;
            // MAC and check
            for (i = 0; i < LANES; i = i + 1) begin
                if (enable[i]) begin
                    acc[i*WACC +: WACC] <= (first2 ? bias2 : acc[i*WACC +: WACC]) + product(weight2, rd_data[i*W +: W]);
                    op[i*KW +: KW] <= first2 ? {{(KW-1){1'b0}}, 1'b1} : op[i*KW +: KW] + 1'b1;
                end else if (valid2 && first2) begin
                    op[i*KW +: KW] <= {KW{1'b0}};
                end
            end
            cnt_mac <= cnt_mac + count(enable);
            if (valid3) cnt_pau_check <= cnt_pau_check + (sign3 ? count(running) : 32'd0) + (guess3 ? count(running) : 32'd0);
            if (valid2 && first2) begin
                running <= mask2;
                stopped <= {LANES{1'b0}};
            end else begin
                running <= alive;
                stopped <= stopped | terminate;
            end
            valid3 <= valid2 && !(early_end && tag2 == tag3);
            last3 <= last2;
            sign3 <= sign2;
            guess3 <= guess2;
            tag3 <= tag2;
            born3 <= born2;
            th3 <= th2;
        end
    end
endmodule
