// An fp32 unit of six stages behind Bloom filters, MAC(a, b, c) or, with in_add, ADD(a, c): a product is rounded before
// it is added, as two instructions would; round to nearest even, subnormals in and out flushed to signed zero, one quiet
// NaN. Tokens, gating, output registers and timing are those of bloom_fu: the answer of the filters to the operands of
// cycle t arrives in t+2, a miss clocks all six stages, a hit none; both leave in t+8.
module bloom_mac #(
    parameter integer NBF = 30
) (
    input  wire                    clk,
    input  wire                    rst,

    input  wire                    cfg_we,
    input  wire [$clog2(NBF)-1:0]  cfg_addr,
    input  wire [31:0]             cfg_data,

    input  wire                    in_valid,
    input  wire                    in_add,
    input  wire [31:0]             in_a,
    input  wire [31:0]             in_b,
    input  wire [31:0]             in_c,
    input  wire                    in_hit,
    input  wire [$clog2(NBF)-1:0]  in_bf,

    output wire                    out_valid,
    output wire                    out_hit,
    output wire [$clog2(NBF)-1:0]  out_bf,
    output reg  [31:0]             out_result,

    output reg  [31:0]             cnt_stage,
    output reg  [31:0]             cnt_read
);
    localparam BF = $clog2(NBF);
    localparam [31:0] QUIET = 32'h7FC00000;
    localparam [30:0] INFINITE = 31'h7F800000;

    reg [31:0]     outputs [0:NBF-1];

    // Operands {add, a, b, c} wait for the filters.
    reg            wait1, wait2;
    reg [96:0]     operands1, operands2;

    // Tokens of the six stages, the first stage lowest.
    reg [5:0]      valid, hits;
    reg [6*BF-1:0] filter;
    wire [5:0]     clocked = {valid[4:0] & ~hits[4:0], wait2 && !in_hit};

    // Stage 1: operands. Stage 2: the exact product.
    reg            add1, add2;
    reg [31:0]     a1, b1, c1, a2, c2;
    reg            sign2, nan2, inf2, zero2;
    reg [9:0]      exp2;
    reg [47:0]     product2;
    wire [23:0]    a_mant = {1'b1, a1[22:0]};
    wire [23:0]    b_mant = {1'b1, b1[22:0]};
    wire           a_zero = a1[30:23] == 8'd0;
    wire           b_zero = b1[30:23] == 8'd0;
    wire           a_inf = a1[30:0] == INFINITE;
    wire           b_inf = b1[30:0] == INFINITE;
    wire           a_nan = a1[30:23] == 8'hFF && !a_inf;
    wire           b_nan = b1[30:23] == 8'hFF && !b_inf;

    // Stage 3: what is added to c, the rounded product or a.
    reg [31:0]     x3, c3;
    wire [9:0]     exp_p = exp2 + {9'd0, product2[47]};
    wire [23:0]    mant_p = product2[47] ? product2[47:24] : product2[46:23];
    wire           half_p = product2[47] ? product2[23] : product2[22];
    wire           rest_p = product2[47] ? product2[22:0] != 23'd0 : product2[21:0] != 22'd0;
    wire           up_p = half_p && (rest_p || mant_p[0]);
    wire [30:0]    rounded_p = {exp_p[7:0], mant_p[22:0]} + {30'd0, up_p};
    // just below the least normal number: rounded there as a subnormal would be
    wire           least_p = exp_p == 10'd0 && mant_p == 24'hFFFFFF;
    wire           under_p = exp_p[9] || exp_p == 10'd0;
    wire [31:0]    product = nan2 ? QUIET
                       : inf2 ? {sign2, INFINITE}
                       : zero2 ? {sign2, 31'd0}
                       : least_p ? {sign2, 31'h00800000}
                       : under_p ? {sign2, 31'd0}
                       : exp_p >= 10'd255 ? {sign2, INFINITE}
                       : {sign2, rounded_p};

    // Stage 4: the exact sum of the larger one and the shifted smaller one, below them guard, round and sticky bit.
    reg            sign4, nan4, inf4;
    reg [7:0]      exp4;
    reg [27:0]     sum4;
    wire           x_zero = x3[30:23] == 8'd0;
    wire           c_zero = c3[30:23] == 8'd0;
    wire           x_inf = x3[30:0] == INFINITE;
    wire           c_inf = c3[30:0] == INFINITE;
    wire           x_nan = x3[30:23] == 8'hFF && !x_inf;
    wire           c_nan = c3[30:23] == 8'hFF && !c_inf;
    wire [31:0]    x = {x3[31], x_zero ? 31'd0 : x3[30:0]};
    wire [31:0]    c = {c3[31], c_zero ? 31'd0 : c3[30:0]};
    wire           c_larger = c[30:0] > x[30:0];
    wire [31:0]    bigger = c_larger ? c : x;
    wire [30:0]    lesser = c_larger ? x[30:0] : c[30:0];
    wire           lesser_zero = c_larger ? x_zero : c_zero;
    wire [7:0]     apart = bigger[30:23] - lesser[30:23];
    wire [4:0]     shift = apart > 8'd27 ? 5'd27 : apart[4:0];
    wire [50:0]    shifted = {!lesser_zero, lesser[22:0], 27'd0} >> shift;
    wire [27:0]    augend = {2'b01, bigger[22:0], 3'd0}; // of two zeros too: their exponent makes it a zero again
    wire [27:0]    addend = {1'b0, shifted[50:25], shifted[24:0] != 25'd0};
    wire           differ = x[31] ^ c[31];
    wire           cancelled = differ && x[30:0] == c[30:0];

    // Stage 5: normalised, rounded, packed.
    reg [31:0]     packed5;
    reg [27:0]     norm;
    reg [9:0]      exp;
    wire           up = norm[3] && (norm[2:0] != 3'd0 || norm[4]);
    wire [30:0]    rounded = {exp[7:0], norm[26:4]} + {30'd0, up}; // the carry goes to the exponent, up to infinity

    always @* begin
        norm = sum4;
        exp = {2'd0, exp4} + 10'd1;
        if (norm[27:12] == 16'd0) begin
            norm = norm << 16;
            exp = exp - 10'd16;
        end
        if (norm[27:20] == 8'd0) begin
            norm = norm << 8;
            exp = exp - 10'd8;
        end
        if (norm[27:24] == 4'd0) begin
            norm = norm << 4;
            exp = exp - 10'd4;
        end
        if (norm[27:26] == 2'd0) begin
            norm = norm << 2;
            exp = exp - 10'd2;
        end
        if (!norm[27]) begin
            norm = norm << 1;
            exp = exp - 10'd1;
        end
    end

    assign out_valid = valid[5];
    assign out_hit = valid[5] && hits[5];
    assign out_bf = valid[5] && hits[5] ? filter[5*BF +: BF] : {BF{1'b0}};

    function [31:0] ones;
        input [5:0] bits;
        ones = {31'd0, bits[0]} + {31'd0, bits[1]} + {31'd0, bits[2]} + {31'd0, bits[3]} + {31'd0, bits[4]}
            + {31'd0, bits[5]};
    endfunction

    always @(posedge clk) begin
        if (cfg_we) outputs[cfg_addr] <= cfg_data;
    end

    always @(posedge clk) begin
        if (in_valid) operands1 <= {in_add, in_a, in_b, in_c};
        if (wait1) operands2 <= operands1;
        if (clocked[0]) {add1, a1, b1, c1} <= operands2;
        if (clocked[1]) begin
            {add2, a2, c2} <= {add1, a1, c1};
            sign2 <= a1[31] ^ b1[31];
            nan2 <= a_nan || b_nan || (a_inf && b_zero) || (b_inf && a_zero);
            inf2 <= a_inf || b_inf;
            zero2 <= a_zero || b_zero;
            exp2 <= {2'd0, a1[30:23]} + {2'd0, b1[30:23]} - 10'd127;
            product2 <= {24'd0, a_mant} * {24'd0, b_mant};
        end
        if (clocked[2]) begin
            x3 <= add2 ? a2 : product;
            c3 <= c2;
        end
        if (clocked[3]) begin
            nan4 <= x_nan || c_nan || (x_inf && c_inf && differ);
            inf4 <= x_inf || c_inf;
            exp4 <= bigger[30:23];
            sum4 <= differ ? augend - addend : augend + addend;
            // what cancels is +0; -0 and -0 stay -0
            sign4 <= cancelled ? 1'b0 : bigger[31];
        end
        if (clocked[4]) begin
            if (nan4) packed5 <= QUIET;
            else if (inf4) packed5 <= {sign4, INFINITE};
            else if (sum4 == 28'd0 || exp[9] || exp == 10'd0) packed5 <= {sign4, 31'd0};
            else if (exp == 10'd255) packed5 <= {sign4, INFINITE};
            else packed5 <= {sign4, rounded};
        end
        if (rst) out_result <= 32'd0;
        else if (valid[4]) out_result <= hits[4] ? outputs[filter[4*BF +: BF]] : packed5;
    end

    always @(posedge clk) begin
        filter <= {filter[5*BF-1:0], in_bf};
        if (rst) begin
            wait1 <= 1'b0;
            wait2 <= 1'b0;
            valid <= 6'd0;
            hits <= 6'd0;
            cnt_stage <= 32'd0;
            cnt_read <= 32'd0;
        end else begin
            wait1 <= in_valid;
            wait2 <= wait1;
            valid <= {valid[4:0], wait2};
            hits <= {hits[4:0], in_hit};
            cnt_stage <= cnt_stage + ones(clocked);
            cnt_read <= cnt_read + {31'd0, valid[4] && hits[4]};
        end
    end
endmodule
